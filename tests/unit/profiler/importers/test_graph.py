from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant, walk_single


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Nodes that read values made before them, some of them outputs."""
    values = [Value(TensorType((2,))) for _ in range(draw(st.integers(1, 3)))]
    inputs, nodes = list(values), []
    for _ in range(draw(st.integers(1, 8))):
        read = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        made = [Value(TensorType((2,))) for _ in range(draw(st.integers(1, 2)))]
        nodes.append(Node("concat", read, made))
        values += made
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))
    return Graph(nodes, inputs, outputs)


def _reachable(graph: Graph) -> set[int]:
    """Nodes that outputs depend on, by following makers back."""
    makers = {value: node for node in graph.nodes for value in node.outputs}
    waiting, found = list(graph.outputs), set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting += node.inputs
    return found


@given(graphs())
def test_just_the_nodes_that_outputs_depend_on_stay(graph: Graph) -> None:
    expected, order = _reachable(graph), [id(node) for node in graph.nodes]
    graph.drop_unread()
    left = [id(node) for node in graph.nodes]
    assert left == [each for each in order if each in expected]


@given(graphs())
def test_readers_are_named_as_often_as_they_read(graph: Graph) -> None:
    readers = graph.readers()
    for node in graph.nodes:
        for value in node.inputs:
            times = sum(each is value for each in node.inputs)
            assert sum(each is node for each in readers[value]) == times
    assert sum(map(len, readers.values())) == sum(len(node.inputs) for node in graph.nodes)


@given(graphs(), st.data())
def test_nobody_reads_what_was_replaced(graph: Graph, data: st.DataObject) -> None:
    old = data.draw(st.sampled_from(graph.inputs))
    was_output = old in graph.outputs
    new = Value(TensorType((2,)))
    readers = graph.readers().get(old, [])
    graph.replace(old, new)
    assert graph.readers().get(old, []) == []
    assert graph.readers().get(new, []) == readers
    assert (new in graph.outputs) == was_output


def test_a_walk_ends_where_two_read() -> None:
    x, a, b, c, d = (Value(TensorType((2,))) for _ in range(5))
    first, second = Node("exp", [x], [a]), Node("log", [a], [b])
    nodes = [first, second, Node("tanh", [b], [c]), Node("sqrt", [b], [d])]
    assert list(walk_single(x, Graph(nodes, [x], [c, d]).readers())) == [first, second]


def test_a_constant_knows_its_type() -> None:
    value = constant(np.arange(6, dtype=np.int64).reshape(2, 3).T)
    assert value.type == TensorType((3, 2), "int64")
    np.testing.assert_array_equal(value.array, [[0, 3], [1, 4], [2, 5]])
