"""A torch module as a graph of ATen operators: without side effects, its constants computed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from profiler.importers.errors import ModelImportError, UnsupportedOperatorError
from profiler.importers.torch_converters import WHOLE
from profiler.importers.torch_fold import fold_constants

_MUTATIONS: Final = frozenset({OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION})


def export(
    module: torch.nn.Module,
    example_inputs: tuple[torch.Tensor, ...] | Mapping[str, torch.Tensor],
    name: str,
) -> torch.export.ExportedProgram:
    """Export a module in evaluation mode.

    Returns:
        A program without side effects whose nodes all depend on an input, but for those named
        `torch_fold.CONSTANT`.

    Raises:
        UnsupportedOperatorError: it draws random numbers.
        ModelImportError: it fails on its example inputs, torch cannot export it, it keeps state,
            or it does not compute in float32.
    """
    by_name = isinstance(example_inputs, Mapping)
    arguments = () if by_name else tuple(example_inputs)
    named = dict(example_inputs) if by_name else {}
    _check_types(module, [*arguments, *named.values()], name)
    with _evaluating(module), torch.no_grad():
        try:
            module(*arguments, **named)
        except Exception as error:  # a person's code may raise anything
            raise ModelImportError(
                f"{name} fails on its example inputs with {type(error).__name__}: "
                f"{first_line(error)}"
            ) from error
        program = _traced(module, arguments, named, name)
        _refuse_state(program, name)
        _refuse_random(program, name)
        fold_constants(program)
    return program


def _traced(
    module: torch.nn.Module,
    arguments: tuple[torch.Tensor, ...],
    named: dict[str, torch.Tensor],
    name: str,
) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch speaks of what it will change in itself
            program = torch.export.export(module, arguments, named, strict=False)
            return program.run_decompositions(_decompositions())
    except Exception as error:  # torch has no common class for what its tracer refuses
        raise ModelImportError(
            f"torch.export cannot trace {name}: {first_line(error)}; where its path depends on "
            "values, write it with torch.where, or export it to ONNX by other means"
        ) from error


def input_names(program: torch.export.ExportedProgram) -> list[str]:
    """What `forward` calls its inputs, in the program's order."""
    specs = program.graph_signature.input_specs
    return [spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT]


def output_names(program: torch.export.ExportedProgram, taken: list[str]) -> list[str]:
    """A name for each output tensor, from the places where the module's result holds them.

    Args:
        program: What was exported.
        taken: Names of its inputs, which are not used again.
    """
    structure = program.call_spec.out_spec
    places, _ = pytree.tree_flatten_with_path(
        pytree.tree_unflatten(range(structure.num_leaves), structure)
    )
    names = []
    for path, _ in places:
        keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
        text = ".".join(keys)
        name = f"output{text}" if not text or text[0].isdigit() else text
        names.append(f"output.{name}" if name in taken else name)
    return names


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def location(node: torch.fx.Node) -> str:
    """The submodule in which a node was written, such as `blocks.0.attention`."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values() if path]
    return paths[-1] if paths else "the module itself"


def _decompositions() -> Any:
    table = torch.export.default_decompositions()
    for name in WHOLE:
        packet, overload = name.split(".")
        table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
    return table


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every part is left in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _check_types(module: torch.nn.Module, inputs: list[torch.Tensor], name: str) -> None:
    tensors = [*module.parameters(), *module.buffers(), *inputs]
    wrong = Counter(
        str(tensor.dtype).removeprefix("torch.")
        for tensor in tensors
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype != torch.float32
    )
    if wrong:
        listed = ", ".join(f"{count} of {dtype}" for dtype, count in sorted(wrong.items()))
        raise ModelImportError(
            f"{name} holds tensors that are not float32 ({listed}); convert module and inputs with "
            "float()"
        )


def _refuse_state(program: torch.export.ExportedProgram, name: str) -> None:
    changed = [
        spec.target or spec.arg.name
        for spec in program.graph_signature.output_specs
        if spec.kind in _MUTATIONS
    ]
    if changed:
        raise ModelImportError(
            f"{name} changes {', '.join(map(repr, changed))} while it runs; take such state as an "
            "input and return it as an output"
        )


def _refuse_random(program: torch.export.ExportedProgram, name: str) -> None:
    found = [
        node
        for node in program.graph.nodes
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        # Random with dropout alone, which its conversion refuses.
        and node.target is not torch.ops.aten.scaled_dot_product_attention.default
    ]
    if found:
        raise UnsupportedOperatorError(
            f"{name} draws random numbers: {len(found)} of {found[0].target} and the like, the "
            f"first in {location(found[0])}; take them as an input"
        )
