"""Products that are only read in parts: what is made part by part, and that nothing changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiler.importers.graph import Graph, Node, constant
from profiler.importers.parts import split_products

from .interpreted import computed, numbers, value


def attention(rows: int, n_parts: int, heads: int, width: int, order: tuple[int, ...]) -> Graph:
    """A product with a bias, cut into parts as attention does it, axes in any order."""
    x, total = value(1, rows, 5), n_parts * heads * width
    product, biased = value(1, rows, total), value(1, rows, total)
    shape = (1, rows, n_parts, heads, width)
    split_up, moved = value(*shape), value(*(shape[a] for a in order))
    axis = order.index(2)
    extents = [1 if a == 2 else shape[a] for a in order]
    parts = [value(*extents) for _ in range(n_parts)]
    cuts = {"indices_or_sections": n_parts, "axis": axis}
    nodes = [
        Node("matmul", [x, constant(numbers(5, total))], [product]),
        Node("add", [constant(numbers(total)), product], [biased]),
        Node("reshape", [biased], [split_up]),
        Node("permute_dims", [split_up], [moved], {"axes": list(order)}),
        Node("split", [moved], parts, cuts),
    ]
    return Graph(nodes, [x], parts)


@given(
    st.integers(1, 4), st.integers(2, 4), st.integers(1, 3), st.integers(4, 6),
    st.permutations(range(5)),
)  # fmt: skip
def test_attention_without_cuts_computes_the_same(
    rows: int, n_parts: int, heads: int, width: int, order: list[int]
) -> None:
    graph = attention(rows, n_parts, heads, width, tuple(order))
    x = numbers(1, rows, 5)
    before = computed(graph, x)
    split_products(graph)
    assert [node.op for node in graph.nodes].count("matmul") == n_parts
    assert "split" not in {node.op for node in graph.nodes}
    for made, wanted in zip(computed(graph, x), before, strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)


@given(st.lists(st.integers(4, 9), min_size=2, max_size=4))
def test_slices_of_unequal_width_become_products_of_their_own(widths: list[int]) -> None:
    x, whole = value(3, 2), value(3, sum(widths))
    parts = [value(3, width) for width in widths]
    ends = np.cumsum([0, *widths]).tolist()
    nodes = [Node("matmul", [x, constant(numbers(2, sum(widths)))], [whole])]
    for part, (begin, end) in zip(parts, pairwise(ends), strict=True):
        given_numbers = {"argument1": [1], "argument2": [begin], "argument3": [end]}
        nodes.append(Node("strided_slice", [whole], [part], given_numbers))
    graph = Graph(nodes, [x], parts)
    array = numbers(3, 2)
    before = computed(graph, array)
    split_products(graph)
    assert [node.op for node in graph.nodes] == ["matmul"] * len(widths)
    for made, wanted in zip(computed(graph, array), before, strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)


def test_what_is_done_to_each_channel_is_done_to_the_parts() -> None:
    x, whole, scaled, active = value(3, 2), value(3, 8), value(3, 8), value(3, 8)
    halves = [value(3, 4), value(3, 4)]
    nodes = [
        Node("matmul", [x, constant(numbers(2, 8))], [whole]),
        Node("multiply", [whole, constant(numbers(1, 8))], [scaled]),
        Node("sigmoid", [scaled], [active]),
        Node("split", [active], halves, {"indices_or_sections": [4], "axis": -1}),
    ]
    graph = Graph(nodes, [x], halves)
    array = numbers(3, 2)
    before = computed(graph, array)
    split_products(graph)
    assert [node.op for node in graph.nodes] == ["matmul", "multiply", "sigmoid"] * 2
    for made, wanted in zip(computed(graph, array), before, strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)


def test_a_product_that_is_also_read_whole_stays() -> None:
    graph = attention(2, 3, 2, 4, (2, 0, 3, 1, 4))
    graph.outputs.append(graph.nodes[1].output)
    before = list(graph.nodes)
    split_products(graph)
    assert graph.nodes == before


def test_parts_along_rows_stay_a_cut() -> None:
    x, whole = value(8, 2), value(8, 6)
    halves = [value(4, 6), value(4, 6)]
    nodes = [
        Node("matmul", [x, constant(numbers(2, 6))], [whole]),
        Node("split", [whole], halves, {"indices_or_sections": 2, "axis": 0}),
    ]
    graph = Graph(nodes, [x], halves)
    split_products(graph)
    assert [node.op for node in graph.nodes] == ["matmul", "split"]


def test_a_part_that_nobody_reads_is_not_made() -> None:
    graph = attention(2, 3, 2, 4, (2, 0, 3, 1, 4))
    graph.outputs = graph.outputs[:2]
    split_products(graph)
    graph.drop_unread()
    assert [node.op for node in graph.nodes].count("matmul") == 2
