from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant
from profiler.importers.simplify import (
    absorb_channels_before,
    absorb_padding,
    name_activations,
    simplify_powers,
)

Array = np.ndarray[Any, Any]


def _run(graph: Graph, x: Array) -> Array:
    """The graph by torch."""
    known: dict[Value, torch.Tensor] = {graph.inputs[0]: torch.from_numpy(x)}

    def tensor(value: Value) -> torch.Tensor:
        return known[value] if value.array is None else torch.from_numpy(value.array)

    for node in graph.nodes:
        given_ = [tensor(value) for value in node.inputs]
        if node.op == "nn.conv2d":
            top, left, bottom, right = node.attributes["padding"]
            padded = functional.pad(given_[0], (left, right, top, bottom))
            result = functional.conv2d(padded, given_[1], groups=node.attributes["groups"])
        elif node.op == "nn.pad":
            widths = node.attributes["pad_width"]
            pairs = [widths[i : i + 2] for i in range(0, len(widths), 2)]
            result = functional.pad(given_[0], [n for pair in pairs[::-1] for n in pair])
        else:
            result = {"add": torch.add, "multiply": torch.mul, "matmul": torch.matmul,
                      "sqrt": torch.sqrt, "power": torch.pow}[node.op](*given_)  # fmt: skip
        known[node.output] = result
    return np.asarray(known[graph.outputs[0]])


def _convolution(
    channels: int, groups: int, padding: Sequence[int], steps: Sequence[str], seed: int
) -> tuple[Graph, Array]:
    """Factors and terms, then a convolution."""
    rng = np.random.default_rng(seed)
    x = Value(TensorType((2, channels, 4, 5)))
    nodes: list[Node] = []
    value = x
    for op in steps:
        vector = constant(rng.uniform(0.5, 1.5, (1, channels, 1, 1)).astype(np.float32))
        made = Value(x.type)
        nodes.append(Node(op, [value, vector], [made]))
        value = made
    kernel = constant(rng.normal(size=(2 * groups, channels // groups, 3, 2)).astype(np.float32))
    top, left, bottom, right = padding
    out = Value(TensorType((2, 2 * groups, 2 + top + bottom, 4 + left + right)))
    attributes = {"padding": list(padding), "groups": groups, "data_layout": "NCHW"}
    nodes.append(Node("nn.conv2d", [value, kernel], [out], attributes))
    return Graph(nodes, [x], [out]), rng.normal(size=x.shape).astype(np.float32)


@settings(max_examples=40)
@given(
    groups=st.sampled_from([1, 2, 4]),
    padding=st.sampled_from([(0, 0, 0, 0), (1, 0, 1, 1)]),
    steps=st.lists(st.sampled_from(["add", "multiply"]), max_size=4),
    seed=st.integers(0, 99),
)
def test_factors_and_terms_before_a_convolution_change_nothing_but_weights(
    groups: int, padding: tuple[int, ...], steps: list[str], seed: int
) -> None:
    graph, x = _convolution(4, groups, padding, steps, seed)
    expected = _run(graph, x)
    absorb_channels_before(graph)
    np.testing.assert_allclose(_run(graph, x), expected, rtol=2e-4, atol=2e-4)
    ops = [node.op for node in graph.nodes]
    if not any(padding):
        assert ops == (["nn.conv2d", "add"] if "add" in steps else ["nn.conv2d"])
    elif "add" in steps:  # the nearest term cannot go through padding
        last = len(steps) - 1 - steps[::-1].index("add")
        assert ops == [*steps[: last + 1], "nn.conv2d"]


def test_what_somebody_else_reads_is_not_drawn_in() -> None:
    graph, _ = _convolution(4, 1, (0, 0, 0, 0), ["multiply"], 0)
    graph.outputs.append(graph.nodes[0].output)
    absorb_channels_before(graph)
    assert [node.op for node in graph.nodes] == ["multiply", "nn.conv2d"]


def test_a_product_takes_factors_and_terms_of_its_depth() -> None:
    rng = np.random.default_rng(0)
    x, scaled, shifted, out = (Value(TensorType(s)) for s in ((3, 4), (3, 4), (3, 4), (3, 2)))
    factor, term = (constant(rng.normal(size=4).astype(np.float32)) for _ in range(2))
    weight = constant(rng.normal(size=(4, 2)).astype(np.float32))
    nodes = [
        Node("multiply", [factor, x], [scaled]),
        Node("add", [scaled, term], [shifted]),
        Node("matmul", [shifted, weight], [out]),
    ]
    graph, data = Graph(nodes, [x], [out]), rng.normal(size=(3, 4)).astype(np.float32)
    expected = _run(graph, data)
    absorb_channels_before(graph)
    assert [node.op for node in graph.nodes] == ["matmul", "add"]
    np.testing.assert_allclose(_run(graph, data), expected, rtol=1e-4, atol=1e-5)


def _padded(mode: str, value: float, width: Sequence[int]) -> tuple[Graph, Array]:
    graph, x = _convolution(4, 2, (1, 0, 0, 1), [], 5)
    source, (convolution,) = graph.inputs[0], graph.nodes
    before, after = width[4::2], width[5::2]
    shape = (2, 4 + sum(width[2:4]), 4 + before[0] + after[0], 5 + before[1] + after[1])
    made, out = Value(TensorType(shape)), convolution.output
    n, c, h, w = out.shape
    wider = Value(TensorType((n, c, h + before[0] + after[0], w + before[1] + after[1])))
    attributes = {"pad_width": list(width), "pad_mode": mode, "pad_value": value}
    convolution.inputs[0], convolution.outputs, graph.outputs = made, [wider], [wider]
    graph.nodes.insert(0, Node("nn.pad", [source], [made], attributes))
    return graph, x


def test_padding_with_zeros_becomes_the_convolutions() -> None:
    graph, x = _padded("constant", 0.0, (0, 0, 0, 0, 2, 1, 0, 3))
    expected = _run(graph, x)
    absorb_padding(graph)
    (convolution,) = graph.nodes
    assert convolution.attributes["padding"] == [3, 0, 1, 4]
    np.testing.assert_array_equal(_run(graph, x), expected)


def test_padding_with_anything_else_stays() -> None:
    for mode, value, width in (
        ("reflect", 0.0, (0, 0, 0, 0, 1, 1, 1, 1)),
        ("constant", 1.0, (0, 0, 0, 0, 1, 1, 1, 1)),
        ("constant", 0.0, (0, 0, 0, 1, 1, 1, 1, 1)),
    ):
        graph, _ = _padded(mode, value, width)
        absorb_padding(graph)
        assert [node.op for node in graph.nodes] == ["nn.pad", "nn.conv2d"]


def test_powers_become_products_and_roots() -> None:
    x = np.random.default_rng(0).uniform(0.1, 2, (3, 4)).astype(np.float32)
    for exponent, ops in (
        (2.0, ["multiply"]), (3.0, ["multiply", "multiply"]), (0.5, ["sqrt"]), (2.5, ["power"])
    ):  # fmt: skip
        base, out = Value(TensorType((3, 4))), Value(TensorType((3, 4)))
        power = constant(np.asarray(exponent, np.float32))
        graph = Graph([Node("power", [base, power], [out])], [base], [out])
        simplify_powers(graph)
        assert [node.op for node in graph.nodes] == ops
        np.testing.assert_allclose(_run(graph, x), x**exponent, rtol=1e-5)


def _spelt_gelu(half: float) -> Graph:
    """x half (1 + erf(x / sqrt 2)), the factor last, and a product behind it."""
    kind = TensorType((3, 8))
    x, scaled, bell, one_more, whole, halved = (Value(kind) for _ in range(6))
    number = [constant(np.asarray(each, np.float32)) for each in (0.5**0.5, 1.0, half)]
    out = Value(kind)
    nodes = [
        Node("multiply", [x, number[0]], [scaled]),
        Node("erf", [scaled], [bell]),
        Node("add", [bell, number[1]], [one_more]),
        Node("multiply", [x, one_more], [whole]),
        Node("multiply", [whole, number[2]], [halved]),
        Node("matmul", [halved, constant(np.eye(8, dtype=np.float32))], [out]),
    ]
    return Graph(nodes, [x], [out])


def test_a_gelu_that_is_spelt_out_is_one_operation() -> None:
    graph = _spelt_gelu(0.5)
    name_activations(graph)
    assert [node.op for node in graph.nodes] == ["nn.gelu", "matmul"]
    assert graph.nodes[0].inputs == graph.inputs


def test_what_is_no_activation_stays_spelt_out() -> None:
    graph = _spelt_gelu(0.7)
    name_activations(graph)
    assert "nn.gelu" not in {node.op for node in graph.nodes}
    assert len(graph.nodes) == 6
