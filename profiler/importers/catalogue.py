"""What becomes of each ONNX operator, found by importing small models that hold it.

The models are ONNX's own examples of each operator, alone, with all but the first input constant,
and between two products of our own: so that the answer is what an import does, not what somebody
once wrote about it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from profiler.importers.errors import QuantizedModelError
from profiler.importers.from_onnx import import_plain
from profiler.importers.imported import ImportedModel
from profiler.importers.onnx_file import read_onnx

Array = NDArray[Any]
#: What becomes of an operator. `own`: an operator kind with schedules of its own; `drawn in`: into
#: the weights or the epilogue of the operator before it; `folded`: nothing is left to run;
#: `generic`: loops of TVM's; `constant`: folded if all its inputs are constant, or else not
#: supported, like `none`.
Way = Literal["own", "drawn in", "folded", "generic", "refused", "constant", "none"]

_N_CASES: Final = 3
_LEAST_OPSET: Final = 13
_MOST_ELEMENTS: Final = 20_000
#: Around an example: what its first input comes from, and what reads its output.
_BEFORE, _AFTER = "latloop_before", "latloop_after"
_KERNELS: Final = ("latloop_kernel_before", "latloop_kernel_after")


@dataclass(frozen=True, slots=True)
class Handling:
    """What becomes of an ONNX operator.

    Attributes:
        operator: ONNX's name.
        since: The opset that defined it as it is now.
        ways: Every way that some example went, `own` first.
        kinds: The kinds of own operators among them.
    """

    operator: str
    since: int
    ways: tuple[Way, ...]
    kinds: tuple[str, ...]


def operator_names() -> tuple[str, ...]:
    """Every operator of the newest opset, by name; what was taken out of it is left out."""
    schemas = onnx.defs.get_all_schemas()
    return tuple(
        sorted({s.name for s in schemas if s.domain in {"", "ai.onnx"} and not s.deprecated})
    )


def describe_operators(names: Sequence[str]) -> tuple[Handling, ...]:
    """Find what becomes of operators, in a process of its own; a fraction of a second each.

    Raises:
        RuntimeError: TVM died of an example.
    """
    command = [sys.executable, "-m", "profiler.importers.catalogue", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise RuntimeError(f"trying out ONNX operators failed: {said[-1]}")
    return tuple(
        Handling(name, since, tuple(ways), tuple(kinds))
        for name, since, ways, kinds in json.loads(done.stdout)
    )


def _try_operators(names: Sequence[str]) -> tuple[Handling, ...]:
    examples = _collect_examples()
    found = []
    for name in names:
        since = onnx.defs.get_schema(name).since_version
        ways, kinds = _try_examples(examples.get(name, ()))
        found.append(Handling(name, since, ways, kinds))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Example:
    """A model of one node with inputs for it."""

    model: onnx.ModelProto
    inputs: tuple[Array, ...]


def _collect_examples() -> dict[str, list[_Example]]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # examples that overflow on purpose
        from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415  # seconds

        cases = collect_testcases()
    examples: dict[str, list[_Example]] = {}
    for case in cases:
        nodes = case.model.graph.node
        inputs = case.data_sets[0][0]
        if len(nodes) != 1 or nodes[0].domain not in {"", "ai.onnx"} or "_expanded" in case.name:
            continue
        arrays = [_as_array(a) for a in inputs]
        if all(a is not None and a.size <= _MOST_ELEMENTS for a in arrays):
            model = onnx.ModelProto()
            model.CopyFrom(case.model)
            # The definition is that of the newest opset, whichever of its opsets the model names.
            model.opset_import[0].version = max(model.opset_import[0].version, _LEAST_OPSET)
            example = _Example(model, tuple(a for a in arrays if a is not None))
            examples.setdefault(nodes[0].op_type, []).append(example)
    return examples


def _as_array(value: object) -> Array | None:
    """An example's input as an array; None for sequences, and types that numpy does not know."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if isinstance(value, onnx.TensorProto):
        with contextlib.suppress(ValueError, TypeError):
            return np.asarray(numpy_helper.to_array(value))
    return None


def _try_examples(
    examples: Sequence[_Example],
) -> tuple[tuple[Way, ...], tuple[str, ...]]:
    ways: dict[Way, None] = {}
    kinds: dict[str, None] = {}
    n_good = 0
    # Those that fit between two products tell the most.
    for example in sorted(examples, key=lambda e: not _fits_between(e)):
        before = len(ways) + len(kinds)
        for model in _variants(example):
            for way, own in _import(model):
                ways[way] = None
                kinds |= dict.fromkeys(own)
        n_good += bool(ways) and (len(ways) + len(kinds) == before or n_good == 0)
        if n_good >= _N_CASES or "refused" in ways:
            break
    if not ways and any(_is_folded(example) for example in examples):
        ways["constant"] = None
    order: tuple[Way, ...] = ("own", "drawn in", "folded", "generic", "refused", "constant")
    return tuple(way for way in order if way in ways) or ("none",), tuple(sorted(kinds))


def _import(model: onnx.ModelProto) -> Iterator[tuple[Way, tuple[str, ...]]]:
    """The ways that one model goes; none where it cannot be imported."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "node.onnx"
        onnx.save(model, str(path))
        try:
            plain = read_onnx(path, {}, 0)
            around = [node for node in model.graph.node if node.name in {_BEFORE, _AFTER}]
            if len(plain.graph.node) == len(around):
                yield "folded", ()
                return
            imported = import_plain(plain, path)
        except QuantizedModelError:
            yield "refused", ()
            return
        except Exception:  # TVM raises anything at an example that it cannot take
            return
    kernels = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name in _KERNELS]
    yield from _classify(imported, kernels)


def _classify(
    imported: ImportedModel, kernels: Sequence[Array]
) -> Iterator[tuple[Way, tuple[str, ...]]]:
    """The ways that an import went; between two products if these have kernels."""
    network = imported.network
    kinds = {operator.kind for operator in network.operators}
    if not kernels:
        own = tuple(kinds - {"generic"})
        if own:
            yield "own", own
        if "generic" in kinds:
            yield "generic", ()
        return
    # Two products of our own and nothing else, but for the order of axes around them: the operator
    # between them is gone.
    left = [op for op in network.operators if op.body is None or op.body.name != "transpose"]
    if "generic" in {op.kind for op in left} or len(left) != 2:
        return
    numbers = [np.sort(array.ravel()) for array in imported.weights.values()]
    is_as_before = not any(operator.epilogue for operator in left) and all(
        any(np.array_equal(np.sort(kernel.ravel()), known) for known in numbers)
        for kernel in kernels
    )
    yield ("folded" if is_as_before else "drawn in"), ()


def _variants(example: _Example) -> Iterator[onnx.ModelProto]:
    """The example as it is, with constants, and between products of our own."""
    yield example.model
    if len(example.inputs) > 1:
        yield _with_constants(example)
    if not _fits_between(example):
        return
    for operator in ("Conv", "MatMul"):
        model = _between(example, operator)
        if model is not None:
            yield model


def _fits_between(example: _Example) -> bool:
    """Whether a product can make an example's first input."""
    first = example.inputs[0] if example.inputs else np.zeros(0)
    return first.dtype == np.float32 and first.ndim >= 2


def _is_folded(example: _Example) -> bool:
    """Whether an example leaves nothing to run once all its inputs are constant."""
    model = _with_constants(example, first=0)
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("latloop_x", onnx.TensorProto.FLOAT, [1]))
    graph.node.append(helper.make_node("Relu", ["latloop_x"], ["latloop_y"], name=_AFTER))
    graph.output.append(helper.make_tensor_value_info("latloop_y", onnx.TensorProto.FLOAT, [1]))
    return any(way == "folded" for way, _ in _import(model))


def _with_constants(example: _Example, first: int = 1) -> onnx.ModelProto:
    """The example, its inputs from a position on constant."""
    model = onnx.ModelProto()
    model.CopyFrom(example.model)
    names = [value.name for value in model.graph.input]
    for name, array in list(zip(names, example.inputs, strict=True))[first:]:
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    del model.graph.input[first:]
    return model


def _between(example: _Example, operator: str) -> onnx.ModelProto | None:
    """A convolution or product, the example, and another one that reads its output."""
    model = _with_constants(example)
    graph = model.graph
    node, first = graph.node[0], example.inputs[0]
    made = graph.output[0].type.tensor_type
    dims = [d.dim_value for d in made.shape.dim]
    if len(dims) < 2 or made.elem_type != onnx.TensorProto.FLOAT or len(graph.output) > 1:
        return None
    is_conv = operator == "Conv"
    if is_conv and (first.ndim, len(dims)) != (4, 4):
        return None
    source = graph.input[0].name
    node.input[0] = _BEFORE
    rng = np.random.default_rng(0)
    axis = 1 if is_conv else -1
    shapes = (first.shape[axis],) * 2, (dims[axis], 4)
    for name, (n_in, n_out) in zip(_KERNELS, shapes, strict=True):
        shape = (n_out, n_in, 1, 1) if is_conv else (n_in, n_out)
        array = rng.normal(size=shape).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, name))
    before = helper.make_node(operator, [source, _KERNELS[0]], [_BEFORE], name=_BEFORE)
    after = helper.make_node(operator, [node.output[0], _KERNELS[1]], [_AFTER], name=_AFTER)
    nodes = [before, node, after]
    dims[axis] = 4
    output = helper.make_tensor_value_info(_AFTER, onnx.TensorProto.FLOAT, dims)
    joined = helper.make_graph(nodes, "between", graph.input, [output], graph.initializer)
    opsets = [helper.make_opsetid("", max(o.version for o in model.opset_import))]
    made_model = helper.make_model(joined, opset_imports=opsets)
    made_model.ir_version = max(model.ir_version, 4)
    return made_model


def _main() -> None:
    """Answer `describe_operators`: one JSON document on standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    handled = _try_operators(sys.argv[1:])
    answers.write(json.dumps([astuple(each) for each in handled]))
    answers.flush()


if __name__ == "__main__":
    _main()
