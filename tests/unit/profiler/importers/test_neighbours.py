"""Nodes that are moved next to what takes them in; the numbers stay what they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profiler.importers.graph import Array, Graph, Node, constant
from profiler.importers.match import match_operators
from profiler.importers.neighbours import hoist_factors, release_additions, sink_transposes

from .interpreted import computed, numbers, value


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def changed(graph: Graph, change: Callable[[Graph], None], *inputs: Array) -> None:
    """Apply a change and hold the outputs against those before it."""
    before = computed(graph, *inputs)
    change(graph)
    for made, wanted in zip(computed(graph, *inputs), before, strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)


def queries(*, is_read_twice: bool) -> Graph:
    """A product with a bias, its heads named, times a number."""
    x, product, biased = value(1, 5, 6), value(1, 5, 8), value(1, 5, 8)
    heads, moved, scaled = value(1, 5, 2, 4), value(1, 2, 5, 4), value(1, 2, 5, 4)
    nodes = [
        Node("matmul", [x, constant(numbers(6, 8))], [product]),
        Node("add", [product, constant(numbers(8))], [biased]),
        Node("reshape", [biased], [heads]),
        Node("permute_dims", [heads], [moved], {"axes": [0, 2, 1, 3]}),
        Node("multiply", [constant(np.float32(0.5)), moved], [scaled]),
    ]
    return Graph(nodes, [x], [scaled, biased] if is_read_twice else [scaled])


def test_a_factor_goes_before_the_views_of_a_product() -> None:
    graph = queries(is_read_twice=False)
    changed(graph, hoist_factors, numbers(1, 5, 6))
    assert ops(graph) == ["matmul", "add", "multiply", "reshape", "permute_dims"]


def test_a_factor_of_what_others_read_stays() -> None:
    graph = queries(is_read_twice=True)
    changed(graph, hoist_factors, numbers(1, 5, 6))
    assert ops(graph)[-1] == "multiply"


def residual(axes: list[int]) -> Graph:
    """An image, and a product over its channels, whose axes are named anew, added to it."""
    x, product = value(1, 4, 4, 4), value(1, 4, 4, 4)
    named, total = value(1, 4, 4, 4), value(1, 4, 4, 4)
    nodes = [
        Node("matmul", [x, constant(numbers(4, 4))], [product]),
        Node("permute_dims", [product], [named], {"axes": axes}),
        Node("add", [x, named], [total]),
    ]
    return Graph(nodes, [x], [total])


def test_an_image_is_added_to_a_product_before_its_axes_are_renamed() -> None:
    graph = residual([0, 3, 1, 2])
    changed(graph, sink_transposes, numbers(1, 4, 4, 4))
    assert ops(graph) == ["matmul", "permute_dims", "add", "permute_dims"]
    match_operators(graph)
    (product,) = (node for node in graph.nodes if "operator" in node.attributes)
    assert product.attributes["operator"].epilogue == ("add",)


def test_other_transposes_stay_where_they_are() -> None:
    graph = residual([0, 2, 1, 3])
    changed(graph, sink_transposes, numbers(1, 4, 4, 4))
    assert ops(graph) == ["matmul", "permute_dims", "add"]


def test_an_addition_between_other_operations_is_left_to_them() -> None:
    x, root, total = value(2, 3), value(2, 3), value(2, 3)
    graph = Graph([Node("tanh", [x], [root]), Node("add", [root, x], [total])], [x], [total])
    match_operators(graph)
    assert "operator" in graph.nodes[1].attributes
    release_additions(graph)
    assert ops(graph) == ["tanh", "add"]


def test_an_addition_by_itself_is_ours() -> None:
    x, y, total = value(2, 3), value(2, 3), value(2, 3)
    graph = Graph([Node("add", [x, y], [total])], [x, y], [total])
    match_operators(graph)
    release_additions(graph)
    assert graph.nodes[0].attributes["operator"].kind == "add"
