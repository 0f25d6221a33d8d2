"""What becomes of each ONNX operator, found by importing small models that hold it.

The models are ONNX's own examples of each operator, alone, with all but the first input constant,
and between two products of our own: so that the answer is what an import does, not what somebody
once wrote about it.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from profiler.importers.errors import ModelImportError, QuantizedModelError
from profiler.importers.from_onnx import import_plain
from profiler.importers.onnx_file import read_onnx
from profiler.network import Network

Array = NDArray[Any]
#: `own`: an operator kind with schedules of its own; `drawn in`: into the weights or the epilogue
#: of the operator before it; `folded`: nothing is left to run; `generic`: loops of TVM's.
Way = Literal["own", "drawn in", "folded", "generic", "refused", "none"]

_N_CASES: Final = 3
_MOST_ELEMENTS: Final = 20_000
#: Around an example: what its first input comes from, and what reads its output.
_BEFORE, _AFTER = "latloop_before", "latloop_after"


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
    """Find what becomes of operators, in the order of their names; a fraction of a second each."""
    from profiler.importers.onnx_converters import convertible  # noqa: PLC0415  # imports TVM

    examples = _collect_examples()
    known = convertible()
    found = []
    for name in names:
        since = onnx.defs.get_schema(name).since_version
        ways, kinds = _try_examples(name, examples.get(name, ()), is_known=name in known)
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
        arrays = all(isinstance(a, np.ndarray) and a.size <= _MOST_ELEMENTS for a in inputs)
        if arrays:
            examples.setdefault(nodes[0].op_type, []).append(_Example(case.model, tuple(inputs)))
    return examples


def _try_examples(
    name: str, examples: Sequence[_Example], *, is_known: bool
) -> tuple[tuple[Way, ...], tuple[str, ...]]:
    ways: dict[Way, None] = {}
    kinds: dict[str, None] = {}
    n_good = 0
    for example in examples:
        before = len(ways) + len(kinds)
        for model in _variants(example):
            for way, own in _import(name, model, is_known=is_known):
                ways[way] = None
                kinds |= dict.fromkeys(own)
        n_good += bool(ways) and (len(ways) + len(kinds) == before or n_good == 0)
        if n_good >= _N_CASES or "refused" in ways:
            break
    order: tuple[Way, ...] = ("own", "drawn in", "folded", "generic", "refused")
    return tuple(way for way in order if way in ways) or ("none",), tuple(sorted(kinds))


def _import(
    name: str, model: onnx.ModelProto, *, is_known: bool
) -> Iterator[tuple[Way, tuple[str, ...]]]:
    """The ways that one model goes; none where it cannot be imported."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "node.onnx"
        onnx.save(model, str(path))
        try:
            plain = read_onnx(path, {}, 0)
            if name not in {node.op_type for node in plain.graph.node}:
                yield "folded", ()
                return
            network = import_plain(plain, path).network if is_known else None
        except QuantizedModelError:
            yield "refused", ()
            return
        except ModelImportError:
            return
    if network is not None:
        yield from _classify(network, [node.name for node in model.graph.node])


def _classify(network: Network, names: Sequence[str]) -> Iterator[tuple[Way, tuple[str, ...]]]:
    kinds = {operator.kind for operator in network.operators}
    if _BEFORE not in names:
        own = tuple(kinds - {"generic"})
        if own:
            yield "own", own
        if "generic" in kinds:
            yield "generic", ()
        return
    # Two products of our own and nothing else: the operator between them is gone.
    if "generic" in kinds or len(network.calls) != 2:
        return
    is_drawn_in = any(operator.epilogue for operator in network.operators)
    yield ("drawn in" if is_drawn_in else "folded"), ()


def _variants(example: _Example) -> Iterator[onnx.ModelProto]:
    """The example as it is, with constants, and between products of our own."""
    yield example.model
    if len(example.inputs) > 1:
        yield _with_constants(example)
    first = example.inputs[0] if example.inputs else None
    if first is not None and first.dtype == np.float32 and 2 <= first.ndim <= 4:
        model = _between(example)
        if model is not None:
            yield model


def _with_constants(example: _Example) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(example.model)
    names = [value.name for value in model.graph.input]
    for name, array in list(zip(names, example.inputs, strict=True))[1:]:
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    del model.graph.input[1:]
    return model


def _between(example: _Example) -> onnx.ModelProto | None:
    """A convolution or product, the example, and a product that reads its first output."""
    model = _with_constants(example)
    graph = model.graph
    node, first = graph.node[0], example.inputs[0]
    made = graph.output[0].type.tensor_type
    dims = [d.dim_value for d in made.shape.dim]
    if len(dims) < 2 or made.elem_type != onnx.TensorProto.FLOAT or len(graph.output) > 1:
        return None
    source = graph.input[0].name
    node.input[0] = _BEFORE
    rng = np.random.default_rng(0)
    channels = first.shape[1] if first.ndim == 4 else first.shape[-1]
    shape = (channels, channels, 1, 1) if first.ndim == 4 else (channels, channels)
    graph.initializer.append(_weights("latloop_w", shape, rng))
    graph.initializer.append(_weights("latloop_v", (dims[-1], 4), rng))
    operator = "Conv" if first.ndim == 4 else "MatMul"
    before = helper.make_node(operator, [source, "latloop_w"], [_BEFORE], name=_BEFORE)
    after = helper.make_node("MatMul", [node.output[0], "latloop_v"], [_AFTER], name=_AFTER)
    nodes = [before, node, after]
    output = helper.make_tensor_value_info(_AFTER, onnx.TensorProto.FLOAT, [*dims[:-1], 4])
    joined = helper.make_graph(nodes, "between", graph.input, [output], graph.initializer)
    opsets = [helper.make_opsetid("", max(o.version for o in model.opset_import))]
    made_model = helper.make_model(joined, opset_imports=opsets)
    made_model.ir_version = max(model.ir_version, 4)
    return made_model


def _weights(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> onnx.TensorProto:
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
