"""Constant folding: every node whose inputs are known is computed now, by ONNX's own reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from profiler.importers.errors import ModelImportError

Array = NDArray[Any]

_RANDOM: Final = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
})  # fmt: skip
#: Larger constants stay out of shape inference: it never computes with them, but copies them.
_N_INFERRED: Final = 512


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what depends on no input, shapes of fixed tensors among it, until nothing is left.

    Branches of an `If` whose condition turns out to be known are inlined. Inputs that are also
    initializers (their default values) become constants.

    Returns:
        A model without any such node, with the shapes of all its tensors where they are known.
    """
    known: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = list(model.graph.node)
    opsets = {o.domain: o.version for o in model.opset_import}
    inputs = [value for value in model.graph.input if value.name not in known]
    while True:
        inferred = _infer(model, nodes, inputs, known)
        kept: list[onnx.NodeProto] = []
        has_changed = False
        for node in nodes:
            branch = _known_branch(node, known)
            if branch is not None:
                kept.extend(_inlined(node, branch, known))
            elif not _fold(node, known, inferred, opsets):
                kept.append(node)
                continue
            has_changed = True
        nodes = kept
        if not has_changed:
            return _assemble(model, nodes, inputs, known, inferred)


def _infer(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    known: Mapping[str, Array],
) -> dict[str, onnx.TypeProto.Tensor]:
    """Types of all tensors that shape inference finds."""
    read = {name for node in nodes for name in node.input} | _names_in_branches(nodes)
    small, large = [], []
    for name, array in known.items():
        if name in read and array.size <= _N_INFERRED:
            small.append(numpy_helper.from_array(array, name))
        elif name in read:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            large.append(helper.make_tensor_value_info(name, kind, array.shape))
    graph = helper.make_graph(nodes, "g", [*inputs, *large], list(model.graph.output), small)
    plain = helper.make_model(graph, opset_imports=list(model.opset_import))
    plain.ir_version = max(model.ir_version, 4)  # before it, initializers had to be inputs
    try:
        found = shape_inference.infer_shapes(plain, strict_mode=False, data_prop=True)
    except shape_inference.InferenceError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelImportError(
            f"the model contradicts itself: {reason}; check it with onnx.checker.check_model"
        ) from error
    values = [*found.graph.input, *found.graph.value_info, *found.graph.output]
    return {value.name: value.type.tensor_type for value in values}


def _names_in_branches(nodes: list[onnx.NodeProto]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                names |= {name for inner in graph.node for name in inner.input}
                names |= _names_in_branches(list(graph.node))
    return names


def _static_shape(kind: onnx.TypeProto.Tensor | None) -> tuple[int, ...] | None:
    if kind is None or not kind.HasField("shape"):
        return None
    dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    return None if any(d < 0 for d in dims) else dims


def _fold(
    node: onnx.NodeProto,
    known: dict[str, Array],
    inferred: Mapping[str, onnx.TypeProto.Tensor],
    opsets: Mapping[str, int],
) -> bool:
    """Compute a node if that is possible; say whether it was."""
    if node.op_type in {"Shape", "Size", "EyeLike"} and node.input[0] not in known:
        kind = inferred.get(node.input[0])
        shape = _static_shape(kind)
        if kind is None or shape is None:
            return False
        # A stand-in without memory: only its shape and type are read.
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        values = {node.input[0]: np.broadcast_to(np.zeros((), dtype), shape)}
    elif all(name in known or not name for name in node.input) and _can_compute(node):
        values = {name: known[name] for name in node.input if name}
    else:
        return False
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
         for n, a in values.items()],
        [helper.make_tensor_value_info(n, 0, None) for n in node.output if n],
    )  # fmt: skip
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports))
        outputs = evaluator.run(None, values)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ModelImportError(
            f"{node.op_type} {node.name or node.output[0]!r} has known inputs and yet cannot be "
            f"computed: {error}"
        ) from error
    known.update(zip([n for n in node.output if n], map(np.asarray, outputs), strict=True))
    return True


def _can_compute(node: onnx.NodeProto) -> bool:
    has_branches = any(a.HasField("g") or a.graphs for a in node.attribute)
    return not has_branches and node.op_type not in _RANDOM and node.domain in {"", "ai.onnx"}


def _known_branch(node: onnx.NodeProto, known: Mapping[str, Array]) -> onnx.GraphProto | None:
    if node.op_type != "If" or node.input[0] not in known:
        return None
    wanted = "then_branch" if bool(known[node.input[0]].reshape(-1)[0]) else "else_branch"
    return next(a.g for a in node.attribute if a.name == wanted)


def _inlined(
    node: onnx.NodeProto, branch: onnx.GraphProto, known: dict[str, Array]
) -> list[onnx.NodeProto]:
    """The branch's nodes, its inner names made unique, its outputs under the node's names."""
    prefix = f"{node.output[0]}/"
    names = {name: prefix + name for inner in branch.node for name in inner.output if name}
    for tensor in branch.initializer:
        names[tensor.name] = prefix + tensor.name
        known[names[tensor.name]] = numpy_helper.to_array(tensor)
    made = {value.name: outer for value, outer in zip(branch.output, node.output, strict=True)}
    nodes = []
    for inner in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        _rename(copy, names)
        nodes.append(copy)
    nodes += [
        helper.make_node("Identity", [names.get(inner, inner)], [outer])
        for inner, outer in made.items()
    ]
    return nodes


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            shadowed = {n for inner in attribute.g.node for n in inner.output}
            free = {old: new for old, new in names.items() if old not in shadowed}
            for inner in attribute.g.node:
                _rename(inner, free)
            for value in attribute.g.output:
                value.name = free.get(value.name, value.name)


def _assemble(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    known: Mapping[str, Array],
    inferred: Mapping[str, onnx.TypeProto.Tensor],
) -> onnx.ModelProto:
    """The model of what remains; nodes whose outputs nobody reads are left out."""
    needed = {value.name for value in model.graph.output}
    alive: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if needed.isdisjoint(node.output):
            continue
        # Of a Split the number of outputs is part of what it does.
        while node.op_type != "Split" and len(node.output) > 1 and node.output[-1] not in needed:
            del node.output[-1]
        node.name = node.name or node.output[0]
        alive.append(node)
        needed |= set(node.input) | _names_in_branches([node])
    outputs = []
    for value in model.graph.output:
        found = onnx.ValueInfoProto()
        found.CopyFrom(value)
        if value.name in inferred:
            found.type.tensor_type.CopyFrom(inferred[value.name])
        outputs.append(found)
    tensors = [numpy_helper.from_array(known[n], n) for n in known if n in needed]
    graph = helper.make_graph(alive[::-1], model.graph.name or "model", inputs, outputs, tensors)
    plain = helper.make_model(graph, opset_imports=list(model.opset_import))
    plain.ir_version = max(model.ir_version, 4)
    return plain
