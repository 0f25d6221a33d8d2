from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant
from profiler.importers.known import evaluate, find_activation, fold_constants


def _tensor(*shape: int, dtype: str = "float32") -> Value:
    return Value(TensorType(shape, dtype))


def _number(value: float) -> Value:
    return constant(np.asarray(value, np.float32))


class Chain:
    """Nodes over one tensor, written one after the other."""

    def __init__(self) -> None:
        self.x = _tensor(2, 3)
        self.nodes: list[Node] = []

    def node(self, op: str, *inputs: Value, **attributes: float) -> Value:
        out = _tensor(2, 3)
        self.nodes.append(Node(op, list(inputs), [out], attributes))
        return out

    def clip(self, value: Value, low: float, high: float) -> Value:
        return self.node("clip", value, argument1=low, argument2=high)

    def found(self, output: Value, *outputs: Value) -> str | None:
        graph = Graph(self.nodes, [self.x], [output, *outputs])
        found = find_activation(self.x, graph.readers(), set(graph.outputs))
        if found is not None:
            assert found[1][-1].output is output
        return None if found is None else found[0]


def test_a_swish_is_found_however_it_is_written() -> None:
    chain = Chain()
    assert chain.found(chain.node("multiply", chain.node("sigmoid", chain.x), chain.x)) == "swish"
    chain = Chain()
    negated = chain.node("exp", chain.node("negative", chain.x))
    assert chain.found(chain.node("divide", chain.x, chain.node("add", negated, _number(1)))) == (
        "swish"
    )


def test_a_hard_swish_is_found_with_any_order_of_its_factors() -> None:
    chain = Chain()
    gate = chain.clip(chain.node("add", chain.x, _number(3)), 0, 6)
    assert chain.found(chain.node("divide", chain.node("multiply", chain.x, gate), _number(6))) == (
        "hard_swish"
    )
    chain = Chain()
    gate = chain.clip(
        chain.node("add", chain.node("multiply", chain.x, _number(1 / 6)), _number(0.5)), 0, 1
    )
    assert chain.found(chain.node("multiply", gate, chain.x)) == "hard_swish"


def test_a_leaky_relu_is_no_activation_of_ours() -> None:
    chain = Chain()
    slope = chain.node("multiply", chain.x, _number(0.1))
    assert chain.found(chain.node("maximum", slope, chain.x)) is None


def test_an_activation_whose_inside_somebody_reads_stays() -> None:
    chain = Chain()
    gate = chain.node("sigmoid", chain.x)
    whole = chain.node("multiply", gate, chain.x)
    assert chain.found(whole, gate) is None


@pytest.mark.parametrize(
    ("op", "torch_op"),
    [("nn.silu", functional.silu), ("sigmoid", torch.sigmoid), ("erf", torch.erf),
     ("round", torch.round), ("rsqrt", torch.rsqrt), ("nn.relu", torch.relu)],
)  # fmt: skip
def test_known_tensors_are_computed_as_torch_does(op: str, torch_op: object) -> None:
    x = np.linspace(0.5, 3.5, 7, dtype=np.float32)
    node = Node(op, [constant(x)], [_tensor(7)])
    expected = torch_op(torch.from_numpy(x)).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(evaluate(node, [x]), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("begin", "end", "stride"), [(1, 4, 1), (0, 5, 2), (-1, -9, -1), (3, 0, -2), (-2, 100, 1)]
)
def test_slices_are_those_of_python(begin: int, end: int, stride: int) -> None:
    x = np.arange(5, dtype=np.float32)
    expected = np.asarray(range(5)[begin:end:stride], np.float32)
    numbers = {"argument1": [0], "argument2": [begin], "argument3": [end], "argument4": [stride]}
    node = Node("strided_slice", [constant(x)], [_tensor(len(expected))], numbers)
    np.testing.assert_array_equal(evaluate(node, [x]), expected)


def test_what_depends_on_an_input_is_not_folded() -> None:
    x, two = _tensor(3), constant(np.full(3, 2, np.float32))
    doubled, total = _tensor(3), _tensor(3)
    graph = Graph(
        [Node("add", [two, two], [doubled]), Node("multiply", [doubled, x], [total])], [x], [total]
    )
    fold_constants(graph)
    (left,) = graph.nodes
    assert left.op == "multiply"
    np.testing.assert_array_equal(left.inputs[0].array, np.full(3, 4, np.float32))


def test_what_numpy_does_not_know_stays() -> None:
    one, made = constant(np.ones((1, 2, 2), np.float32)), _tensor(1, 4, 4)
    graph = Graph([Node("nn.conv1d", [one, one], [made])], [], [made])
    fold_constants(graph)
    assert [node.op for node in graph.nodes] == ["nn.conv1d"]
