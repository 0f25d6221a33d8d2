"""Nodes that one of Latloop's operators computes, found and replaced.

What follows a convolution or a matrix product is drawn into it: factors and terms for each channel
go into the weights, a second tensor of the same shape and an activation into the epilogue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from profiler.importers.graph import Graph, Node, Value
from profiler.importers.known import UNIT_CLIP, find_activation
from profiler.operator import Operator, as_image

Array = NDArray[Any]

#: Name of a node that holds an `Operator` under `operator` and its weights under `weights`.
OURS: Final = "@latloop"
_SCALES: Final = {"add": 1, "subtract": 1, "multiply": 0, "divide": 0}


@dataclass(slots=True)
class _Found:
    """An operator while it grows over the nodes behind it.

    Attributes:
        kind, fields: What `Operator` is made of, but for its epilogue.
        inputs: Values that it reads, the residual last.
        nodes: Nodes that it replaces, in order; the last one's output is its own.
        kernel: Weights in the operator's layout, output channels last, or None.
        bias: A number for each output channel, or None.
        channel_axis: Where the model has the output's channels.
        epilogue: Steps so far.
    """

    kind: str
    fields: dict[str, Any]
    inputs: list[Value]
    nodes: list[Node]
    kernel: Array | None = None
    bias: Array | None = None
    channel_axis: int = 1
    epilogue: list[str] = field(default_factory=list)

    @property
    def output(self) -> Value:
        return self.nodes[-1].outputs[0]


def match_operators(graph: Graph) -> None:
    """Replace what our operators compute by nodes named `OURS`."""
    readers, outputs = graph.readers(), set(graph.outputs)
    instead: dict[int, Node | None] = {}
    for node in graph.nodes:
        found = None if id(node) in instead else _match(node)
        if found is None:
            continue
        if found.kernel is not None:
            _absorb_channels(found, readers, outputs)
        if found.kind != "add":
            _absorb_residual(found, readers, outputs)
        _absorb_activation(found, readers, outputs)
        made = _own_node(found)
        instead |= {id(each): None for each in found.nodes} | {id(found.nodes[-1]): made}
        for each in found.nodes:
            for value in each.inputs:
                readers[value].remove(each)
        for value in made.inputs:
            readers[value].append(made)
    kept = (instead.get(id(node), node) for node in graph.nodes)
    graph.nodes = [node for node in kept if node is not None]


def _own_node(found: _Found) -> Node:
    weights: list[Array] = []
    epilogue = list(found.epilogue)
    if found.kernel is not None:
        weights.append(found.kernel)
        if found.bias is not None:
            weights.append(found.bias)
            epilogue.insert(0, "bias")
    operator = Operator(found.kind, **found.fields, epilogue=tuple(epilogue))  # type: ignore[arg-type]
    return Node(OURS, found.inputs, [found.output], {"operator": operator, "weights": weights})


def _absorb_channels(found: _Found, readers: dict[Value, list[Node]], outputs: set[Value]) -> None:
    """Draw factors and terms for each channel into kernel and bias."""
    assert found.kernel is not None
    channels = found.kernel.shape[-1]
    while (node := _only_reader(found.output, readers, outputs)) is not None:
        if node.op not in _SCALES or len(node.outputs) != 1:
            return
        is_first = node.inputs[0] is found.output
        other = node.inputs[1 if is_first else 0]
        vector = _as_channels(other, found, channels)
        if vector is None or node.output.shape != found.output.shape:
            return
        bias = np.zeros(channels, np.float32) if found.bias is None else found.bias
        kernel = found.kernel
        if node.op == "add":
            bias = bias + vector
        elif node.op == "subtract":
            sign = 1 if is_first else -1
            bias, kernel = sign * (bias - vector), sign * kernel
        elif node.op == "multiply" or is_first:
            factor = vector if node.op == "multiply" else 1.0 / vector
            bias, kernel = bias * factor, kernel * factor
        else:
            return  # a constant over the result
        found.kernel = np.asarray(kernel, np.float32)
        found.bias = np.asarray(bias, np.float32)
        found.nodes.append(node)


def _as_channels(value: Value, found: _Found, channels: int) -> Array | None:
    """A constant as one number for each output channel, if it is that."""
    if value.array is None:
        return None
    rank = len(found.output.shape)
    array = value.array.reshape((1,) * (rank - value.array.ndim) + value.array.shape)
    if array.size == 1:
        return np.full(channels, array.reshape(()), np.float32)
    axis = found.channel_axis % rank
    if array.shape[axis] != channels or array.size != channels:
        return None
    return np.asarray(array.reshape(channels), np.float32)


def _absorb_residual(found: _Found, readers: dict[Value, list[Node]], outputs: set[Value]) -> None:
    node = _only_reader(found.output, readers, outputs)
    if node is None or node.op != "add":
        return
    other = next((v for v in node.inputs if v is not found.output), None)
    if other is None or other.array is not None or other.type != found.output.type:
        return
    found.inputs.append(other)
    found.epilogue.append("add")
    found.nodes.append(node)


def _absorb_activation(
    found: _Found, readers: dict[Value, list[Node]], outputs: set[Value]
) -> None:
    if found.output in outputs:
        return
    activation = find_activation(found.output, readers, outputs)
    if activation is None:
        return
    name, nodes = activation
    if name == UNIT_CLIP:
        if found.kernel is None or found.epilogue:
            return
        bias = 0.0 if found.bias is None else found.bias
        found.kernel = np.asarray(found.kernel * 6, np.float32)
        found.bias = np.full(found.kernel.shape[-1], bias * 6 - 3, np.float32)
        name = "hard_sigmoid"
    found.epilogue.append(name)
    found.nodes.extend(nodes)


def _only_reader(
    value: Value, readers: dict[Value, list[Node]], outputs: set[Value]
) -> Node | None:
    nodes = readers.get(value, [])
    return nodes[0] if len(nodes) == 1 and value not in outputs else None


def _match(node: Node) -> _Found | None:
    if any(value.type.dtype != "float32" for value in (*node.inputs, *node.outputs)):
        return None
    matcher = _MATCHERS.get(node.op)
    return None if matcher is None else matcher(node)


def _match_convolution(node: Node) -> _Found | None:
    x, weight = node.inputs
    if weight.array is None:
        return None
    one = node.op == "nn.conv1d"
    layouts = node.attributes.get("data_layout"), node.attributes.get("kernel_layout")
    if layouts != (("NCW", "OIW") if one else ("NCHW", "OIHW")):
        return None
    kernel = weight.array[:, :, None, :] if one else weight.array  # OIHW
    strides, dilation = list(node.attributes["strides"]), list(node.attributes["dilation"])
    padding = list(node.attributes["padding"])
    if one:
        strides, dilation = [1, *strides], [1, *dilation]
        padding = [0, padding[0], 0, padding[-1]]
    groups = node.attributes["groups"]
    n, c, *image = x.shape
    height, width = (1, image[0]) if one else image
    fields: dict[str, Any] = {
        "input_shape": (n, height, width, c),
        "out_channels": kernel.shape[0],
        "kernel": kernel.shape[2:],
        "stride": tuple(strides),
        "padding": tuple(padding),
        "dilation": tuple(dilation),
    }
    if groups == c == kernel.shape[0] and groups > 1:
        return _Found("depthwise_conv2d", fields, [x], [node], kernel[:, 0].transpose(1, 2, 0))
    fields["groups"] = groups
    return _Found("conv2d", fields, [x], [node], kernel.transpose(2, 3, 1, 0))


def _match_product(node: Node) -> _Found | None:
    x, weight = node.inputs
    if weight.array is None or weight.array.ndim != 2 or len(x.shape) < 2:
        return None
    rows = math.prod(x.shape[:-1])
    fields = {"input_shape": (rows, 1, 1, x.shape[-1]), "out_channels": weight.shape[1]}
    return _Found("dense", fields, [x], [node], weight.array, channel_axis=-1)


def _match_pool(node: Node) -> _Found | None:
    (x,) = node.inputs
    attributes = node.attributes
    n, c, height, width = x.shape
    kernel, strides = attributes["pool_size"], attributes["strides"]
    padding, dilation = list(attributes["padding"]), attributes["dilation"]
    kind = "max_pool2d" if node.op == "nn.max_pool2d" else "avg_pool2d"
    if kind == "avg_pool2d" and any(padding) and not attributes["count_include_pad"]:
        return None
    _, _, out_height, out_width = node.output.shape
    for axis, (size, wanted) in enumerate(((height, out_height), (width, out_width))):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        missing = (wanted - 1) * strides[axis] + reach - size - padding[axis] - padding[axis + 2]
        if missing > 0:  # rounded up
            if kind == "avg_pool2d":
                return None
            padding[axis + 2] += missing
    if kind == "avg_pool2d" and tuple(dilation) != (1, 1):
        return None
    fields = {
        "input_shape": (n, height, width, c),
        "out_channels": c,
        "kernel": tuple(kernel),
        "stride": tuple(strides),
        "padding": tuple(padding),
        "dilation": tuple(dilation),
    }
    return _Found(kind, fields, [x], [node])


def _match_global_pool(node: Node) -> _Found | None:
    (x,) = node.inputs
    if len(x.shape) != 4:
        return None
    n, c, height, width = x.shape
    if node.op == "mean":
        axes = node.attributes.get("axis")
        is_global = axes is not None and sorted(a % 4 for a in axes) == [2, 3]
    else:
        is_global = node.output.shape == (n, c, 1, 1)
    if not is_global:
        return None
    fields = {"input_shape": (n, height, width, c), "out_channels": c}
    return _Found("global_avg_pool2d", fields, [x], [node])


def _match_add(node: Node) -> _Found | None:
    left, right = node.inputs
    if left.array is not None or right.array is not None or left.type != right.type:
        return None
    if len(left.shape) == 4:
        n, c, h, w = left.shape
        shape = (n, h, w, c)
    else:
        shape = as_image(left.shape)
    return _Found("add", {"input_shape": shape, "out_channels": shape[3]}, [left, right], [node])


def _match_scale(node: Node) -> _Found | None:
    for x, factor in (node.inputs, node.inputs[::-1]):
        if len(x.shape) != 4 or x.array is not None or factor.array is not None:
            continue
        n, c, h, w = x.shape
        if factor.shape == (n, c, 1, 1) and (h, w) != (1, 1) and x.shape == node.output.shape:
            fields = {"input_shape": (n, h, w, c), "out_channels": c}
            return _Found("scale", fields, [x, factor], [node])
    return None


_MATCHERS: Final[Mapping[str, Callable[[Node], _Found | None]]] = {
    "nn.conv2d": _match_convolution,
    "nn.conv1d": _match_convolution,
    "matmul": _match_product,
    "nn.max_pool2d": _match_pool,
    "nn.avg_pool2d": _match_pool,
    "mean": _match_global_pool,
    "nn.adaptive_avg_pool2d": _match_global_pool,
    "add": _match_add,
    "multiply": _match_scale,
}
