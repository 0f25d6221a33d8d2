"""Nodes moved so that operators find what belongs to them next to themselves."""

from __future__ import annotations

from typing import Final

from profiler.importers.graph import Graph, Node, Value
from profiler.importers.known import is_elementwise

#: How a product over the channels of an image is called an image again. Other tensors would have
#: to be moved to meet a product.
_CHANNELS_FIRST: Final = (0, 3, 1, 2)
_VIEWS: Final = frozenset({"reshape", "squeeze", "expand_dims", "flatten", "permute_dims"})
_FUSABLE: Final = frozenset({
    "astype", "broadcast_to", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu", "nn.softplus",
})  # fmt: skip


def sink_transposes(graph: Graph) -> None:
    """Add to a product before its axes are renamed, not after: the sum becomes part of the product.

    `x + transpose(product)` is `transpose(transposed back x + product)`. Renaming moves nothing.
    """
    readers, makers = graph.readers(), graph.makers()
    nodes: list[Node] = []
    for node in graph.nodes:
        position = _transposed_product(node, readers, makers, set(graph.outputs))
        if position is None:
            nodes.append(node)
            continue
        rename = makers[node.inputs[position]]
        axes = _axes(rename)
        back = tuple(axes.index(axis) for axis in range(len(axes)))
        product, other = rename.inputs[0], node.inputs[1 - position]
        moved, total = Value(product.type), Value(product.type)
        nodes += [
            Node("permute_dims", [other], [moved], {"axes": list(back)}),
            Node("add", [product, moved], [total]),
            Node("permute_dims", [total], node.outputs, {"axes": list(axes)}),
        ]
    graph.nodes = nodes
    graph.drop_unread()


def _transposed_product(
    node: Node,
    readers: dict[Value, list[Node]],
    makers: dict[Value, Node],
    outputs: set[Value],
) -> int | None:
    """Which input of an addition is a product whose axes were renamed; None if neither is."""
    if node.op != "add" or any(v.array is not None for v in node.inputs):
        return None
    if node.inputs[0].type != node.inputs[1].type:
        return None
    for position, value in enumerate(node.inputs):
        maker = makers.get(value)
        if maker is None or maker.op != "permute_dims" or _axes(maker) != _CHANNELS_FIRST:
            continue
        source = value
        while maker is not None and (maker.op == "permute_dims" or is_elementwise(maker)):
            if len(readers.get(source, ())) != 1 or source in outputs:
                break
            moving = [v for v in maker.inputs if v.array is None]
            if len(moving) != 1:
                break
            source = moving[0]
            maker = makers.get(source)
        if maker is not None and maker.op == "matmul" and maker.inputs[1].array is not None:
            return position
    return None


def _axes(rename: Node) -> tuple[int, ...]:
    rank = len(rename.output.shape)
    return tuple(a % rank for a in rename.attributes.get("axes") or range(rank)[::-1])


def hoist_factors(graph: Graph) -> None:
    """Multiply a product by a number before it is reshaped, not after: its weights take it in."""
    readers, makers = graph.readers(), graph.makers()
    for node in list(graph.nodes):
        factor = next((v for v in node.inputs if v.array is not None and v.array.size == 1), None)
        moving = [v for v in node.inputs if v.array is None]
        if node.op != "multiply" or factor is None or len(moving) != 1:
            continue
        if node.output.type != moving[0].type:
            continue
        views = _views_before(node, moving[0], readers, makers, set(graph.outputs))
        source = views[-1].inputs[0] if views else moving[0]
        maker = makers.get(source)
        if not views or readers[source] != [views[-1]] or source in graph.outputs:
            continue
        if maker is None or maker.op not in {"add", "matmul"}:
            continue
        scaled = Value(source.type)
        views[-1].inputs = [scaled, *views[-1].inputs[1:]]
        views[0].outputs = node.outputs
        position = graph.nodes.index(views[-1])
        graph.nodes.remove(node)
        graph.nodes.insert(position, Node("multiply", [source, factor], [scaled]))
        readers, makers = graph.readers(), graph.makers()


def _views_before(
    node: Node,
    value: Value,
    readers: dict[Value, list[Node]],
    makers: dict[Value, Node],
    outputs: set[Value],
) -> list[Node]:
    """Reshapes and transposes of which each is only read by the one behind it, the last first."""
    views: list[Node] = []
    reader = node
    while (maker := makers.get(value)) is not None and maker.op in _VIEWS:
        if readers[value] != [reader] or value in outputs:
            break
        views.append(maker)
        reader, value = maker, maker.inputs[0]
    return views


def release_additions(graph: Graph) -> None:
    """Hand additions back that other operators can take in: alone they read and write everything.

    An addition that was not drawn into a product, and whose neighbour is an operation place by
    place that none of our operators computes, is fused with it.
    """
    readers, makers = graph.readers(), graph.makers()
    outputs = set(graph.outputs)
    for position, node in enumerate(graph.nodes):
        operator = node.attributes.get("operator")
        if operator is None or operator.kind != "add" or operator.epilogue:
            continue
        before = [makers[v] for v in node.inputs if v in makers and len(readers[v]) == 1]
        after = readers.get(node.output, [])
        is_inside = len(after) == 1 and node.output not in outputs
        if any(map(_is_fusable, before)) or (is_inside and _is_fusable(after[0])):
            graph.nodes[position] = Node("add", node.inputs, node.outputs)


def _is_fusable(node: Node) -> bool:
    return is_elementwise(node) or node.op in _FUSABLE
