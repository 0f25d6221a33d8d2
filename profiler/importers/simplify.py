"""What can be written in a simpler way, or be part of the convolution or product behind it."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from profiler.importers.graph import Graph, Node, Value, constant
from profiler.importers.known import find_activation

Array = NDArray[Any]
_CONVOLUTIONS: Final = frozenset({"nn.conv1d", "nn.conv2d"})
_LAYOUTS: Final = frozenset({"NCW", "NCHW"})


def simplify_powers(graph: Graph) -> None:
    """Write powers that are products or roots as such: a general power is slow."""
    nodes: list[Node] = []
    for node in graph.nodes:
        exponent = node.inputs[1].array if node.op == "power" else None
        power = None if exponent is None or exponent.size != 1 else float(exponent.reshape(()))
        if power is None:
            nodes.append(node)
            continue
        base = node.inputs[0]
        if base.shape != node.output.shape or base.type != node.output.type:
            power = None
        if power == 2.0:
            nodes.append(Node("multiply", [base, base], node.outputs))
        elif power == 3.0:
            square = Value(base.type)
            nodes.append(Node("multiply", [base, base], [square]))
            nodes.append(Node("multiply", [square, base], node.outputs))
        elif power == 0.5 and base.type.dtype == "float32":
            nodes.append(Node("sqrt", [base], node.outputs))
        else:
            nodes.append(node)
    graph.nodes = nodes


#: Activations that models spell out, and the operation that is each of them.
_NAMED: Final = {"gelu": "nn.gelu", "swish": "nn.silu"}


def name_activations(graph: Graph) -> None:
    """Write activations that are spelt out as one operation each, whose factors stay its own."""
    readers, outputs = graph.readers(), set(graph.outputs)
    for value in [*graph.inputs, *(v for node in graph.nodes for v in node.outputs)]:
        found = find_activation(value, readers, outputs)
        if found is None or found[0] not in _NAMED or len(found[1]) == 1:
            continue
        name, (*inner, last) = found
        position = graph.nodes.index(last)
        graph.nodes[position] = Node(_NAMED[name], [value], last.outputs)
        graph.nodes = [node for node in graph.nodes if node not in inner]
        readers = graph.readers()


def absorb_padding(graph: Graph) -> None:
    """Let convolutions pad with zeros themselves where the model does it before them."""
    readers, makers = graph.readers(), graph.makers()
    for node in graph.nodes:
        if node.op == "matmul" or not _takes_channels(node):
            continue
        pad = makers.get(node.inputs[0])
        if pad is None or pad.op != "nn.pad" or not _is_private(pad.output, readers, graph):
            continue
        width, attributes = pad.attributes["pad_width"], pad.attributes
        if attributes["pad_mode"] != "constant" or attributes["pad_value"] or any(width[:4]):
            continue
        before, after = width[4::2], width[5::2]
        stated = list(node.attributes["padding"])
        padding = [a + b for a, b in zip(stated, before + after, strict=True)]
        node.attributes = {**node.attributes, "padding": padding}
        node.inputs = [pad.inputs[0], *node.inputs[1:]]
        node.origin = None
    graph.drop_unread()


def absorb_channels_before(graph: Graph) -> None:
    """Draw factors and terms for each input channel into the weights behind them, where exact.

    A term cannot go through padding: the zeros around the image would have to be terms, too.
    """
    readers, makers = graph.readers(), graph.makers()
    nodes: list[Node] = []
    for node in graph.nodes:
        behind: Value | None = None
        while (step := _step_before(node, makers, readers, graph)) is not None:
            maker, vector = step
            weight = node.inputs[1]
            assert weight.array is not None
            if maker.op == "multiply":
                new, term = constant(_scaled(node, weight.array, vector)), None
            else:
                new, term = weight, _summed(node, weight.array, vector)
            node.inputs = [next(v for v in maker.inputs if v.array is None), new]
            node.origin = None
            if term is not None:
                # Later steps stand before this one: their terms add up behind the node.
                total = term if behind is None or behind.array is None else behind.array + term
                behind = constant(total)
        nodes.append(node)
        if behind is not None:
            out, made = node.output, Value(node.output.type)
            node.outputs = [made]
            nodes.append(Node("add", [made, behind], [out]))
    graph.nodes = nodes
    graph.drop_unread()


def _takes_channels(node: Node) -> bool:
    """Whether a node multiplies channels by weights that are known."""
    if node.op != "matmul" and node.op not in _CONVOLUTIONS:
        return False
    weight = node.inputs[1]
    if weight.array is None or weight.type.dtype != "float32":
        return False
    if node.op == "matmul":
        return weight.array.ndim == 2
    return node.attributes["data_layout"] in _LAYOUTS


def _is_private(value: Value, readers: dict[Value, list[Node]], graph: Graph) -> bool:
    return len(readers.get(value, ())) == 1 and value not in graph.outputs


def _step_before(
    node: Node, makers: dict[Value, Node], readers: dict[Value, list[Node]], graph: Graph
) -> tuple[Node, Array] | None:
    """The factor or term that is all that makes a node's input, with its numbers by channel."""
    is_product = node.op == "matmul"
    if not _takes_channels(node):
        return None
    x = node.inputs[0]
    maker = makers.get(x)
    if maker is None or not _is_private(x, readers, graph):
        return None
    if maker.op not in {"add", "multiply"} or any(v.type.dtype != "float32" for v in maker.inputs):
        return None
    if maker.op == "add" and not is_product and any(node.attributes["padding"]):
        return None
    vector = _by_channel(maker, x, len(x.shape) - 1 if is_product else 1)
    return None if vector is None else (maker, vector)


def _by_channel(maker: Node, x: Value, axis: int) -> Array | None:
    """The constant side of an operation as one number a channel; None if it is no such thing."""
    known = [v for v in maker.inputs if v.array is not None]
    moving = [v for v in maker.inputs if v.array is None]
    if len(known) != 1 or len(moving) != 1 or moving[0].shape != x.shape:
        return None
    array = known[0].array
    assert array is not None
    shape = (1,) * (len(x.shape) - array.ndim) + array.shape
    if array.size == 1:
        return np.full(x.shape[axis], array.reshape(()), np.float32)
    if math.prod(shape) != shape[axis] or shape[axis] != x.shape[axis]:
        return None
    return np.asarray(array.reshape(-1), np.float32)


def _channels_of(node: Node, kernel: Array, vector: Array) -> Array:
    """Numbers by input channel, shaped to meet a kernel's; groups read channels of their own."""
    if node.op == "matmul":
        return vector[:, None]
    groups = node.attributes["groups"]
    depth = kernel.shape[1]
    by_output = np.repeat(vector.reshape(groups, depth), kernel.shape[0] // groups, axis=0)
    return by_output.reshape(*by_output.shape, *(1,) * (kernel.ndim - 2))


def _scaled(node: Node, kernel: Array, vector: Array) -> Array:
    return np.asarray(kernel * _channels_of(node, kernel, vector), np.float32)


def _summed(node: Node, kernel: Array, vector: Array) -> Array:
    """What terms before a node become behind it, shaped to meet its output."""
    terms = kernel.astype(np.float64) * _channels_of(node, kernel, vector)
    if node.op == "matmul":
        return np.asarray(terms.sum(0), np.float32)
    total = terms.reshape(len(terms), -1).sum(1)
    return np.asarray(total.reshape(1, -1, *(1,) * (kernel.ndim - 2)), np.float32)
