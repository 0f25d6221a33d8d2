"""Small graphs and what they compute, by numpy alone."""

from __future__ import annotations

import numpy as np

from profiler.generic import TensorType
from profiler.importers.graph import Array, Graph, Value

OPERATIONS = {
    "matmul": np.matmul,
    "add": np.add,
    "multiply": np.multiply,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
RNG = np.random.default_rng(0)


def value(*shape: int) -> Value:
    return Value(TensorType(shape))


def numbers(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def computed(graph: Graph, *inputs: Array) -> list[Array]:
    """The outputs, by numpy alone."""
    known = dict(zip(graph.inputs, inputs, strict=True))

    def get(v: Value) -> Array:
        return known[v] if v.array is None else v.array

    for node in graph.nodes:
        arrays = [get(v) for v in node.inputs]
        if node.op == "split":
            cuts = node.attributes["indices_or_sections"]
            made = np.split(arrays[0], cuts, node.attributes["axis"])
        elif node.op == "strided_slice":
            (axis,), (begin,), (end,) = (node.attributes[f"argument{i}"] for i in (1, 2, 3))
            made = [
                np.take(arrays[0], range(*slice(begin, end).indices(arrays[0].shape[axis])), axis)
            ]
        elif node.op == "permute_dims":
            made = [arrays[0].transpose(node.attributes["axes"])]
        elif node.op == "reshape":
            made = [arrays[0].reshape(node.output.shape)]
        else:
            made = [OPERATIONS[node.op](*arrays)]
        known.update(zip(node.outputs, made, strict=True))
    return [known[v] for v in graph.outputs]
