"""Transposed convolutions as convolutions of their own, one for each phase of the stride.

With stride s, output y takes input i through tap k where i s + k = y + padding. Outputs of one
phase r = (y + padding) mod s share the taps r, r + s, r + 2 s, ..., so that all phases side by side
are one convolution with stride 1 and s x s times as many channels, and a shuffle (Shi et al. 2016,
section 3). No zero is ever multiplied, but for taps beyond the kernel's end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant, walk_single
from profiler.importers.known import ELEMENTWISE

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One image axis of a transposed convolution.

    Attributes:
        size, out_size: Extents of input and output.
        kernel, stride, padding: Taps, stride, and padding before the first output.
    """

    size: int
    out_size: int
    kernel: int
    stride: int
    padding: int

    @property
    def n_taps(self) -> int:
        """Taps of each phase."""
        return math.ceil(self.kernel / self.stride)

    @property
    def n_made(self) -> int:
        """Positions at which the phases are computed: no fewer than the inputs."""
        return max(math.ceil((self.out_size + self.padding) / self.stride), self.size)


def decompose_transposed(graph: Graph) -> None:
    """Replace transposed convolutions of known weights, undilated and in one group."""
    readers = graph.readers()
    outputs = set(graph.outputs)
    nodes: list[Node] = []
    moved: set[int] = set()
    for node in graph.nodes:
        if id(node) in moved:
            continue
        if not _is_plain(node):
            nodes.append(node)
            continue
        followers = _followers(node, readers, outputs)
        moved.update(id(each) for each in followers)
        nodes += _decomposed(node, followers)
    graph.nodes = nodes


def _is_plain(node: Node) -> bool:
    return (
        node.op == "nn.conv2d_transpose"
        and node.inputs[1].array is not None
        and node.attributes["data_layout"] == "NCHW"
        and node.attributes["kernel_layout"] == "IOHW"
        and node.attributes["groups"] == 1
        and set(node.attributes["dilation"]) == {1}
    )


def _followers(
    node: Node, readers: dict[Value, list[Node]], outputs: set[Value]
) -> tuple[Node, ...]:
    """What is done next to each number of the output by itself or by its channel."""
    found: list[Node] = []
    value = node.output
    for reader in walk_single(value, readers):
        others = [v for v in reader.inputs if v is not value]
        is_known = reader.op in ELEMENTWISE or reader.op == "clip"
        if value in outputs or not is_known or reader.output.type != node.output.type:
            break
        if not all(_by_channel(v, node.output.shape[1]) for v in others):
            break
        found.append(reader)
        value = reader.output
    return tuple(found)


def _by_channel(value: Value, n_channels: int) -> bool:
    if value.array is None:
        return False
    shape = (1,) * (4 - value.array.ndim) + value.array.shape
    return value.array.size == 1 or shape == (1, n_channels, 1, 1)


def _decomposed(node: Node, followers: tuple[Node, ...]) -> list[Node]:
    x, weight = node.inputs
    out = followers[-1].output if followers else node.output
    assert weight.array is not None
    padding = node.attributes["padding"]
    high, wide = (
        _Axis(
            x.shape[2 + axis],
            out.shape[2 + axis],
            weight.array.shape[2 + axis],
            node.attributes["strides"][axis],
            padding[axis],
        )
        for axis in (0, 1)
    )
    n_phases = high.stride * wide.stride
    made_shape = (x.shape[0], n_phases * out.shape[1], high.n_made, wide.n_made)
    made = Value(TensorType(made_shape, x.type.dtype))
    attributes = {
        "strides": [1, 1],
        "dilation": [1, 1],
        "groups": 1,
        "padding": [high.n_taps - 1, wide.n_taps - 1, high.n_made - high.size,
                    wide.n_made - wide.size],
        "data_layout": "NCHW",
        "kernel_layout": "OIHW",
    }  # fmt: skip
    kernel = constant(_phase_kernels(weight.array, high, wide))
    nodes = [Node("nn.conv2d", [x, kernel], [made], attributes)]
    value, old = made, node.output
    for follower in followers:
        result = Value(made.type)
        inputs = [value if v is old else _repeated(v, n_phases) for v in follower.inputs]
        nodes.append(Node(follower.op, inputs, [result], follower.attributes, follower.origin))
        value, old = result, follower.output
    return nodes + _shuffled(value, out, high, wide)


def _phase_kernels(weight: Array, high: _Axis, wide: _Axis) -> Array:
    """IOHW taps as OIHW kernels of all phases: O is (vertical, horizontal phase, output)."""
    n_in, n_out = weight.shape[:2]
    taps_h, taps_w = high.n_taps, wide.n_taps
    whole = np.zeros((n_in, n_out, taps_h * high.stride, taps_w * wide.stride), weight.dtype)
    whole[:, :, : high.kernel, : wide.kernel] = weight
    # Tap m of a phase reads the input m places before: the kernel runs backwards.
    cut = whole.reshape(n_in, n_out, taps_h, high.stride, taps_w, wide.stride)[:, :, ::-1, :, ::-1]
    return np.ascontiguousarray(cut.transpose(3, 5, 1, 0, 2, 4).reshape(-1, n_in, taps_h, taps_w))


def _repeated(value: Value, n_phases: int) -> Value:
    """A number for each channel as one for each channel of each phase."""
    assert value.array is not None
    if value.array.size == 1:
        return value
    return constant(np.tile(value.array.reshape(1, -1, 1, 1), (1, n_phases, 1, 1)))


def _shuffled(value: Value, out: Value, high: _Axis, wide: _Axis) -> list[Node]:
    """Put the phases between each other and cut the padding off."""
    n, c = out.shape[:2]
    dtype = out.type.dtype
    cut = Value(TensorType((n, high.stride, wide.stride, c, high.n_made, wide.n_made), dtype))
    mixed = Value(TensorType((n, c, high.n_made, high.stride, wide.n_made, wide.stride), dtype))
    extents = high.n_made * high.stride, wide.n_made * wide.stride
    nodes = [
        Node("reshape", [value], [cut]),
        Node("permute_dims", [cut], [mixed], {"axes": [0, 3, 4, 1, 5, 2]}),
    ]
    if extents == out.shape[2:]:
        return [*nodes, Node("reshape", [mixed], [out])]
    whole = Value(TensorType((n, c, *extents), dtype))
    begin = [high.padding, wide.padding]
    bounds = {
        "argument1": [2, 3],
        "argument2": begin,
        "argument3": [begin[0] + out.shape[2], begin[1] + out.shape[3]],
        "argument4": [1, 1],
    }
    return [
        *nodes,
        Node("reshape", [mixed], [whole]),
        Node("strided_slice", [whole], [out], bounds),
    ]
