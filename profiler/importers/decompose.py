"""Operations written as others that our operators can draw in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant

Array = NDArray[Any]


def decompose_average_pool(graph: Graph) -> None:
    """Write a mean that leaves its padding out as one that counts zeros, times a factor a pixel."""
    nodes: list[Node] = []
    for node in graph.nodes:
        attributes = node.attributes
        if node.op != "nn.avg_pool2d" or attributes["count_include_pad"]:
            nodes.append(node)
            continue
        padding = list(attributes["padding"])
        (x,), out = node.inputs, node.output
        counts = []
        for axis in (0, 1):
            kernel, stride = attributes["pool_size"][axis], attributes["strides"][axis]
            size, n_out = x.shape[2 + axis], out.shape[2 + axis]
            starts = np.arange(n_out) * stride - padding[axis]
            counts.append(np.minimum(starts + kernel, size) - np.maximum(starts, 0))
            padding[2 + axis] = max(int(starts[-1]) + kernel - size, 0)
        area = math.prod(attributes["pool_size"])
        factor = area / np.outer(*counts)
        changed = {**attributes, "padding": padding, "count_include_pad": True}
        if np.all(factor == 1.0):
            nodes.append(Node(node.op, [x], [out], changed, node.origin))
            continue
        mean = Value(out.type)
        nodes.append(Node(node.op, [x], [mean], changed, node.origin))
        nodes.append(Node("multiply", [mean, _constant(factor, [1, 1, *factor.shape], x)], [out]))
    graph.nodes = nodes


def decompose_batch_norm(graph: Graph) -> None:
    """Write a batch-norm of known statistics as a factor and a term for each channel."""
    nodes: list[Node] = []
    for node in graph.nodes:
        arrays = [value.array for value in node.inputs[1:]]
        if node.op != "nn.batch_norm" or any(array is None for array in arrays):
            nodes.append(node)
            continue
        gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays if a is not None)
        x, out = node.inputs[0], node.outputs[0]
        # Ioffe and Szegedy 2015, algorithm 2
        factor = (gamma if node.attributes.get("scale", True) else 1.0) / np.sqrt(
            variance + node.attributes["epsilon"]
        )
        term = (beta if node.attributes.get("center", True) else 0.0) - mean * factor
        axis = node.attributes.get("axis") or 1
        shape = [1] * len(x.shape)
        shape[axis] = x.shape[axis]
        scaled = Value(TensorType(x.shape, x.type.dtype))
        nodes.append(Node("multiply", [x, _constant(factor, shape, x)], [scaled]))
        nodes.append(Node("add", [scaled, _constant(term, shape, x)], [out]))
    graph.nodes = nodes


def _constant(array: Array, shape: list[int], like: Value) -> Value:
    return constant(np.asarray(array, like.type.dtype).reshape(shape))
