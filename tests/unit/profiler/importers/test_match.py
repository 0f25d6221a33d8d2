from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from profiler.generic import TensorType
from profiler.importers.decompose import decompose_average_pool, decompose_batch_norm
from profiler.importers.graph import Graph, Node, Value, constant
from profiler.importers.match import OURS, match_operators
from profiler.operator import Operator

Array = np.ndarray[Any, Any]
_RNG = np.random.default_rng(0)


def _tensor(*shape: int) -> Value:
    return Value(TensorType(shape))


def _vector(n: int, rank: int = 4) -> Value:
    shape = (1, n, *(1,) * (rank - 2)) if rank > 1 else (n,)
    return constant(_RNG.uniform(0.5, 1.5, shape).astype(np.float32))


class Net:
    """A convolution and nodes behind it."""

    def __init__(self, groups: int = 1) -> None:
        self.x = _tensor(1, 4, 6, 6)
        self.out = _tensor(1, 4, 6, 6)
        kernel = _RNG.normal(size=(4, 4 // groups, 3, 3)).astype(np.float32)
        attributes = {
            "strides": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": groups,
            "data_layout": "NCHW", "kernel_layout": "OIHW",
        }  # fmt: skip
        self.kernel = constant(kernel)
        self.nodes = [Node("nn.conv2d", [self.x, self.kernel], [self.out], attributes)]

    def node(self, op: str, *inputs: Value, **attributes: float) -> Value:
        self.out = _tensor(1, 4, 6, 6)
        self.nodes.append(Node(op, list(inputs), [self.out], attributes))
        return self.out

    def matched(self, *inputs: Value, outputs: tuple[Value, ...] = ()) -> Graph:
        graph = Graph(self.nodes, [self.x, *inputs], [self.out, *outputs])
        match_operators(graph)
        return graph


def _operator(node: Node) -> Operator:
    assert node.op == OURS
    operator = node.attributes["operator"]
    assert isinstance(operator, Operator)
    return operator


def test_all_that_follows_a_convolution_becomes_its_epilogue() -> None:
    net, other = Net(), _tensor(1, 4, 6, 6)
    net.node("multiply", net.out, _vector(4))
    net.node("add", _vector(4), net.out)
    net.node("add", other, net.out)
    net.node("nn.relu", net.out)
    graph = net.matched(other)
    (node,) = graph.nodes
    assert _operator(node).epilogue == ("bias", "add", "relu")
    assert node.inputs == [net.x, other]
    assert node.output is net.out


@settings(max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "subtract", "multiply", "divide"]), st.booleans()),
        max_size=4,
    )
)
def test_numbers_for_each_channel_go_into_the_weights(steps: list[tuple[str, bool]]) -> None:
    net = Net()
    x = torch.from_numpy(_RNG.normal(size=(1, 4, 6, 6)).astype(np.float32))
    assert net.kernel.array is not None
    expected = functional.conv2d(x, torch.from_numpy(net.kernel.array), padding=1)
    for op, is_first in steps:
        if op == "divide" and not is_first:
            continue  # a number over the result is no factor
        vector = _vector(4)
        net.node(op, *((net.out, vector) if is_first else (vector, net.out)))
        known = torch.from_numpy(vector.array)
        left, right = (expected, known) if is_first else (known, expected)
        expected = {"add": torch.add, "subtract": torch.sub, "multiply": torch.mul,
                    "divide": torch.div}[op](left, right)  # fmt: skip
    (node,) = net.matched().nodes
    kernel, *bias = (torch.from_numpy(w) for w in node.attributes["weights"])
    made = functional.conv2d(x, kernel.permute(3, 2, 0, 1), *bias, padding=1)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)


def test_a_clip_to_one_becomes_a_hard_sigmoid() -> None:
    net = Net()
    net.node("clip", net.out, argument1=0.0, argument2=1.0)
    (node,) = net.matched().nodes
    assert _operator(node).epilogue == ("bias", "hard_sigmoid")
    kernel, bias = node.attributes["weights"]
    assert net.kernel.array is not None
    # hard_sigmoid(z) is (z + 3) / 6, clipped
    np.testing.assert_allclose(kernel.transpose(3, 2, 0, 1) / 6, net.kernel.array, rtol=1e-6)
    np.testing.assert_allclose((bias + 3) / 6, 0, atol=1e-6)


def test_what_an_output_needs_is_not_hidden_inside() -> None:
    net = Net()
    inner = net.out
    net.node("nn.relu", net.out)
    graph = net.matched(outputs=(inner,))
    assert [node.op for node in graph.nodes] == [OURS, "nn.relu"]
    assert _operator(graph.nodes[0]).epilogue == ()


def test_a_value_that_two_read_ends_an_epilogue() -> None:
    net = Net()
    made = net.out
    relu = net.node("nn.relu", made)
    net.node("multiply", relu, net.node("tanh", made))
    graph = net.matched()
    assert [node.op for node in graph.nodes] == [OURS, "nn.relu", "tanh", "multiply"]


@pytest.mark.parametrize(
    ("groups", "kind"), [(1, "conv2d"), (2, "conv2d"), (4, "depthwise_conv2d")]
)
def test_groups_decide_the_kind(groups: int, kind: str) -> None:
    (node,) = Net(groups).matched().nodes
    assert _operator(node).kind == kind


def test_a_batch_norm_becomes_a_factor_and_a_term() -> None:
    x, out = _tensor(2, 4, 3, 3), _tensor(2, 4, 3, 3)
    parameters = [_vector(4, 1) for _ in range(4)]
    attributes = {"epsilon": 1e-3, "axis": 1, "center": True, "scale": True}
    node = Node("nn.batch_norm", [x, *parameters], [out, _tensor(4), _tensor(4)], attributes)
    graph = Graph([node], [x], [out])
    decompose_batch_norm(graph)
    multiply, add = graph.nodes
    gamma, beta, mean, variance = (torch.from_numpy(v.array) for v in parameters)
    data = torch.from_numpy(_RNG.normal(size=(2, 4, 3, 3)).astype(np.float32))
    expected = functional.batch_norm(data, mean, variance, gamma, beta, eps=1e-3)
    assert multiply.inputs[1].array is not None
    made = data.numpy() * multiply.inputs[1].array + add.inputs[1].array
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_a_mean_without_its_padding_is_one_with_a_factor_a_pixel(ceil_mode: bool) -> None:
    data = torch.from_numpy(_RNG.normal(size=(1, 2, 7, 6)).astype(np.float32))
    expected = functional.avg_pool2d(
        data, 3, stride=2, padding=1, count_include_pad=False, ceil_mode=ceil_mode
    )
    x, out = _tensor(1, 2, 7, 6), _tensor(*expected.shape)
    attributes = {
        "pool_size": [3, 3], "strides": [2, 2], "padding": [1, 1, 1, 1], "dilation": [1, 1],
        "count_include_pad": False, "ceil_mode": ceil_mode,
    }  # fmt: skip
    graph = Graph([Node("nn.avg_pool2d", [x], [out], attributes)], [x], [out])
    decompose_average_pool(graph)
    pool, multiply = graph.nodes
    top, left, bottom, right = pool.attributes["padding"]
    mean = functional.avg_pool2d(functional.pad(data, (left, right, top, bottom)), 3, stride=2)
    assert multiply.inputs[1].array is not None
    np.testing.assert_allclose(
        mean.numpy() * multiply.inputs[1].array, expected, rtol=1e-5, atol=1e-6
    )


def test_integers_are_left_to_others() -> None:
    x, y = (Value(TensorType((1, 4, 6, 6), "int64")) for _ in range(2))
    out = Value(TensorType((1, 4, 6, 6), "int64"))
    graph = Graph([Node("add", [x, y], [out])], [x, y], [out])
    match_operators(graph)
    assert [node.op for node in graph.nodes] == ["add"]
