"""Transposed convolutions, written as convolutions and a shuffle, compute what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant
from profiler.importers.transposed import decompose_transposed


@dataclass(frozen=True)
class Case:
    size: tuple[int, int]
    channels: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    output_padding: tuple[int, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, (k - 1) // 2)) for k in kernel)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    size = draw(st.tuples(st.integers(2, 5), st.integers(2, 5)))
    channels = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return Case(size, channels, kernel, stride, padding, extra)


def expected_output(case: Case, x: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    return functional.conv_transpose2d(
        torch.from_numpy(x),
        torch.from_numpy(weight),
        stride=case.stride,
        padding=case.padding,
        output_padding=case.output_padding,
    )


def transposed_node(case: Case, x: Value, weight: np.ndarray, shape: tuple[int, ...]) -> Node:
    attributes = {
        "strides": list(case.stride),
        "padding": [*case.padding, *case.padding],
        "output_padding": list(case.output_padding),
        "dilation": [1, 1],
        "groups": 1,
        "data_layout": "NCHW",
        "kernel_layout": "IOHW",
    }
    out = Value(TensorType(shape))
    return Node("nn.conv2d_transpose", [x, constant(weight)], [out], attributes)


def run(graph: Graph, x: np.ndarray) -> torch.Tensor:
    """A graph of one input, by torch; every node's shape is checked."""
    tensors = {graph.inputs[0]: torch.from_numpy(x)}
    for node in graph.nodes:
        inputs = [tensors[v] if v.array is None else torch.from_numpy(v.array) for v in node.inputs]
        tensors[node.output] = run_node(node, inputs)
        assert tuple(tensors[node.output].shape) == node.output.shape
    return tensors[graph.outputs[0]]


def run_node(node: Node, inputs: list[torch.Tensor]) -> torch.Tensor:
    return RUN[node.op](node, *inputs)


def run_convolution(node: Node, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    top, left, bottom, right = node.attributes["padding"]
    padded = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(padded, weight, stride=node.attributes["strides"])


def run_slice(node: Node, x: torch.Tensor) -> torch.Tensor:
    begin, end = node.attributes["argument2"], node.attributes["argument3"]
    assert node.attributes["argument1"] == [2, 3]
    return x[:, :, begin[0] : end[0], begin[1] : end[1]]


RUN: dict[str, Callable[..., torch.Tensor]] = {
    "nn.conv2d": run_convolution,
    "strided_slice": run_slice,
    "reshape": lambda node, x: x.reshape(node.output.shape),
    "permute_dims": lambda node, x: x.permute(node.attributes["axes"]),
    "add": lambda _, x, y: x + y,
    "multiply": lambda _, x, y: x * y,
    "nn.relu": lambda _, x: x.relu(),
}


def draw_arrays(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, case.channels[0], *case.size)).astype(np.float32)
    return x, rng.normal(size=(*case.channels, *case.kernel)).astype(np.float32)


@settings(deadline=None)
@given(cases())
def test_any_stride_padding_and_kernel_gives_the_numbers_of_torch(case: Case) -> None:
    x, weight = draw_arrays(case)
    expected = expected_output(case, x, weight)
    value = Value(TensorType(x.shape))
    node = transposed_node(case, value, weight, tuple(expected.shape))
    graph = Graph([node], [value], [node.output])
    decompose_transposed(graph)
    assert "nn.conv2d_transpose" not in [each.op for each in graph.nodes]
    torch.testing.assert_close(run(graph, x), expected, rtol=1e-4, atol=1e-5)


def test_what_follows_channel_by_channel_is_drawn_before_the_shuffle() -> None:
    case = Case((3, 4), (3, 2), (3, 3), (2, 2), (1, 1), (1, 1))
    x, weight = draw_arrays(case)
    plain = expected_output(case, x, weight)
    value = Value(TensorType(x.shape))
    node = transposed_node(case, value, weight, tuple(plain.shape))
    term = np.array([0.5, -2.0], np.float32).reshape(1, 2, 1, 1)
    shifted, scaled, active = (Value(node.output.type) for _ in range(3))
    nodes = [
        node,
        Node("add", [node.output, constant(term)], [shifted]),
        Node("multiply", [shifted, constant(np.float32(3.0).reshape(()))], [scaled]),
        Node("nn.relu", [scaled], [active]),
    ]
    graph = Graph(nodes, [value], [active])
    decompose_transposed(graph)
    names = [each.op for each in graph.nodes]
    assert names[:5] == ["nn.conv2d", "add", "multiply", "nn.relu", "reshape"]
    expected = ((plain + torch.from_numpy(term)) * 3.0).relu()
    torch.testing.assert_close(run(graph, x), expected, rtol=1e-4, atol=1e-5)


def test_an_output_of_the_model_on_the_way_stays_where_it_is() -> None:
    case = Case((3, 3), (2, 2), (2, 2), (2, 2), (0, 0), (0, 0))
    x, weight = draw_arrays(case)
    plain = expected_output(case, x, weight)
    value = Value(TensorType(x.shape))
    node = transposed_node(case, value, weight, tuple(plain.shape))
    active = Value(node.output.type)
    graph = Graph([node, Node("nn.relu", [node.output], [active])], [value], [node.output, active])
    decompose_transposed(graph)
    torch.testing.assert_close(run(graph, x), plain, rtol=1e-4, atol=1e-5)
    assert graph.nodes[-1].op == "nn.relu"


def test_groups_and_dilation_are_left_to_the_compiler() -> None:
    case = Case((3, 3), (2, 2), (3, 3), (2, 2), (0, 0), (0, 0))
    x, weight = draw_arrays(case)
    value = Value(TensorType(x.shape))
    for changed in ({"groups": 2}, {"dilation": [2, 2]}):
        node = transposed_node(case, value, weight, (1, 2, 7, 7))
        node.attributes = {**node.attributes, **changed}
        graph = Graph([node], [value], [node.output])
        decompose_transposed(graph)
        assert graph.nodes == [node]
