"""A page that says how every operator is handled, made from the code that handles them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import onnx

from profiler.importers.catalogue import Handling, describe_operators, operator_names
from profiler.operator import ACTIVATIONS, EPILOGUE_ORDER, KINDS, OWN_KINDS, Operator
from profiler.schedules.space import candidates
from profiler.target import Target

#: A core with vectors of eight numbers, for the count of schedules alone.
_TARGET: Final = Target("x86_64-linux-gnu", "x86-64-v3", vector_bytes=32)
#: Shapes of which every kind takes one.
_EXAMPLES: Final[tuple[dict[str, Any], ...]] = (
    {"input_shape": (1, 16, 16, 16), "out_channels": 16, "kernel": (3, 3), "padding": (1,) * 4},
    {"input_shape": (1, 16, 16, 16), "out_channels": 16},
    {"input_shape": (16, 1, 1, 16), "out_channels": 16},
)
_WAYS: Final = {
    "drawn in": "drawn into the convolution or product before it",
    "folded": "folded away",
    "generic": "generic",
    "refused": "refused: quantised",
    "constant": "folded away if its inputs are constant, or else not supported",
    "none": "not supported",
}


def write_catalogue(names: Sequence[str] | None = None) -> str:
    """The page as Markdown.

    Args:
        names: ONNX operators; None takes all of the newest opset.
    """
    handled = describe_operators(operator_names() if names is None else names)
    lines = [
        "# Catalogue of operators",
        "",
        "Made by `latloop catalogue`; do not edit.",
        "",
        "## Kinds",
        "",
        "What Latloop has schedules of its own for. An epilogue follows in the same kernel, in "
        f"this order: {', '.join(_epilogue_step(names) for names in EPILOGUE_ORDER)}.",
        "",
        "| Kind | Rules of its schedules | Epilogue |",
        "|---|---|---|",
        *map(describe_kind, OWN_KINDS),
        "",
        f"Every other function of tensors is of kind `{KINDS[-1]}`: loops that TVM writes and "
        "fuses, timed and predicted like the others. Rule `matmul` computes products of two "
        "tensors, `rowwise` sums, maxima and functions along the last axis (softmax, layer norm, "
        "chains of arithmetic), and `generic` lays out whatever loops there are.",
        "",
        f"## ONNX operators, opset {onnx.defs.onnx_opset_version()}",
        "",
        "What becomes of ONNX's own examples of each operator: alone, with constant weights, and "
        "between two products. *Folded away*: nothing is left to run. *Generic*: one kernel with "
        "what surrounds it, where TVM can fuse it. *Not supported*: the import names it and stops.",
        "",
        "| Operator | Since opset | Becomes |",
        "|---|---|---|",
        *map(describe_handling, handled),
        "",
    ]
    return "\n".join(lines)


def describe_kind(kind: str) -> str:
    """The row of one operator kind."""
    operator = next(_operators(kind))
    tried = candidates(operator, _TARGET)
    rules = ", ".join(f"`{rule}`" for rule in dict.fromkeys(s.rule for s in tried))
    return f"| `{kind}` | {rules} | {', '.join(_steps(kind)) or 'none'} |"


def describe_handling(handling: Handling) -> str:
    """The row of one ONNX operator."""
    parts = [f"`{kind}`" for kind in handling.kinds]
    parts += [_WAYS[way] for way in handling.ways if way != "own"]
    return f"| {handling.operator} | {handling.since} | {', '.join(parts)} |"


def _operators(kind: str, epilogue: tuple[str, ...] = ()) -> Iterator[Operator]:
    """Operators of a kind, from the shapes that it takes."""
    for fields in _EXAMPLES:
        try:
            yield Operator(kind, **fields, epilogue=epilogue)  # type: ignore[arg-type]
        except ValueError:
            continue


def _steps(kind: str) -> Iterator[str]:
    """Steps of an epilogue that a kind takes; activations as one."""
    for names in EPILOGUE_ORDER:
        step = min(names)
        if next(_operators(kind, (step,)), None) is not None:
            yield _epilogue_step(names)


def _epilogue_step(names: frozenset[str]) -> str:
    if len(names) == 1:
        return next(iter(names))
    return f"an activation ({', '.join(a for a in ACTIVATIONS if a in names)})"
