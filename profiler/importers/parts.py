"""Products and convolutions whose results are only read in parts, made part by part.

Queries, keys and values of an attention, or the two halves of a gated unit, come out of one product
and are cut apart. Cutting is a copy; so many products with a part of the weights each are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant
from profiler.importers.known import is_elementwise
from profiler.importers.order import Shape, reshape_groups

Indices = NDArray[np.int32]

#: Smaller parts are not worth a kernel of their own.
_FEWEST_CHANNELS: Final = 4
_MOST_PARTS: Final = 8
_RESHAPES: Final = frozenset({"reshape", "squeeze", "expand_dims", "flatten"})


@dataclass(slots=True)
class _Source:
    """A product or convolution, and what leads from it to where it is cut.

    Attributes:
        maker: The node.
        axis: Where its output has the channels.
        steps: What is done next to each number by itself or by its channel: terms, activations.
        views: Reshapes and transposes behind it, each the only reader of what is before it.
        cuts: The nodes that cut it: one split, or slices.
    """

    maker: Node
    axis: int
    steps: list[Node]
    views: list[Node]
    cuts: list[Node]

    @property
    def nodes(self) -> list[Node]:
        """All that is replaced."""
        return [self.maker, *self.steps, *self.views, *self.cuts]


def split_products(graph: Graph) -> None:
    """Replace every product and convolution that is only read in parts by one for each part."""
    for maker in list(graph.nodes):
        source = _find(maker, graph)
        if source is None:
            continue
        made = _parts(source)
        if made is None:
            continue
        gone = {id(node) for node in source.nodes}
        position = next(i for i, node in enumerate(graph.nodes) if node is maker)
        kept = [node for node in graph.nodes if id(node) not in gone]
        graph.nodes = [*kept[:position], *made, *kept[position:]]


def _find(maker: Node, graph: Graph) -> _Source | None:
    axis = _channel_axis(maker)
    if axis is None:
        return None
    readers, outputs = graph.readers(), set(graph.outputs)
    value, steps, views = maker.output, list[Node](), list[Node]()
    while value not in outputs:
        nodes = readers.get(value, [])
        if nodes and all(_is_cut(node) for node in nodes):
            return _Source(maker, axis, steps, views, list(dict.fromkeys(nodes)))
        if len(nodes) != 1:
            return None
        (node,) = nodes
        if not views and _is_step(node, value, axis):
            steps.append(node)
        elif node.op in _RESHAPES or node.op == "permute_dims":
            views.append(node)
        else:
            return None
        value = node.output
    return None


def _channel_axis(node: Node) -> int | None:
    """Where the output has its channels; None for what cannot be made part by part."""
    if len(node.inputs) != 2 or node.inputs[0].array is not None:
        return None
    weight = node.inputs[1].array
    if weight is None or len(node.outputs) != 1:
        return None
    if node.op == "matmul" and weight.ndim == 2:
        return len(node.output.shape) - 1
    layouts = {"nn.conv2d": "NCHW", "nn.conv1d": "NCW"}
    if node.op in layouts and node.attributes["groups"] == 1:
        return 1 if node.attributes["data_layout"] == layouts[node.op] else None
    return None


def _is_cut(node: Node) -> bool:
    if node.op == "split":
        return True
    if node.op != "strided_slice" or node.output.array is not None:
        return False
    strides = node.attributes.get("argument4", [1])
    axes = node.attributes["argument1"]
    return len(axes) == 1 and list(strides) == [1]


def _is_step(node: Node, value: Value, axis: int) -> bool:
    if not is_elementwise(node) or node.output.type != value.type:
        return False
    by_channel = tuple(e if place == axis else 1 for place, e in enumerate(value.shape))
    return all(
        other.array is not None
        and (other.array.size == 1 or _aligned(other, len(by_channel)).shape == by_channel)
        for other in node.inputs
        if other is not value
    )


def _aligned(value: Value, rank: int) -> NDArray[Any]:
    assert value.array is not None
    return value.array.reshape((1,) * (rank - value.array.ndim) + value.array.shape)


def _parts(source: _Source) -> list[Node] | None:
    """Nodes that make each part by itself; None where a part is no set of whole channels."""
    shape = source.maker.output.shape
    channels = np.arange(shape[source.axis], dtype=np.int32)
    places = _spread(channels, shape, source.axis)
    for view in source.views:
        places = _viewed(view, places, view.output.shape)
    cut = [pair for node in source.cuts for pair in _pieces(node, places)]
    n_rows = places.size // channels.size
    taken: set[int] = set()
    nodes: list[Node] = []
    if not 2 <= len(cut) <= _MOST_PARTS:
        return None
    for axis, value, piece in cut:
        chosen = np.unique(piece)
        is_whole = piece.size == n_rows * chosen.size and taken.isdisjoint(chosen.tolist())
        if not is_whole or chosen.size < _FEWEST_CHANNELS:
            return None
        taken.update(chosen.tolist())
        made = _one_part(source, chosen, value, axis, piece)
        if made is None:
            return None
        nodes += made
    return nodes


def _pieces(node: Node, places: Indices) -> list[tuple[int, Value, Indices]]:
    """(axis, value, channels) of each tensor that a node cuts out."""
    rank = places.ndim
    if node.op == "strided_slice":
        axis = node.attributes["argument1"][0] % rank
        begin, end = (node.attributes[f"argument{i}"][0] for i in (2, 3))
        index = (slice(None),) * axis + (slice(begin, end),)
        return [(axis, node.output, places[index])]
    axis = (node.attributes.get("axis") or 0) % rank
    arrays = np.split(places, node.attributes["indices_or_sections"], axis)
    return [(axis, value, array) for value, array in zip(node.outputs, arrays, strict=True)]


def _one_part(
    source: _Source, chosen: Indices, result: Value, axis: int, wanted: Indices
) -> list[Node] | None:
    """A product of the chosen channels and the same views of it; None if that is not the part."""
    shapes = _shapes(source, axis, result.shape[axis])
    if shapes is None or shapes[0][source.axis] != chosen.size:
        return None
    places = _spread(chosen, shapes[0], source.axis)
    for view, shape in zip(source.views, shapes[1:], strict=True):
        places = _viewed(view, places, shape)
    if not np.array_equal(places, wanted):
        return None
    dtype = result.type.dtype
    values = [Value(TensorType(shape, dtype)) for shape in shapes]
    values[-1] = result
    nodes = _made(source, chosen, values[0])
    for view, before, after in zip(source.views, values, values[1:], strict=False):
        nodes.append(Node(view.op, [before], [after], view.attributes))
    return nodes


def _made(source: _Source, chosen: Indices, result: Value) -> list[Node]:
    maker = source.maker
    weight = maker.inputs[1].array
    assert weight is not None
    kernel = constant(np.take(weight, chosen, axis=1 if maker.op == "matmul" else 0))
    values = [Value(result.type) for _ in source.steps] + [result]
    nodes = [Node(maker.op, [maker.inputs[0], kernel], values[:1], maker.attributes, maker.origin)]
    for step, before, after in zip(source.steps, values, values[1:], strict=False):
        inputs = []
        for other in step.inputs:
            if other.array is None:
                inputs.append(before)
            elif other.array.size == 1:
                inputs.append(other)
            else:
                channels = np.take(_aligned(other, len(result.shape)), chosen, axis=source.axis)
                inputs.append(constant(channels))
        nodes.append(Node(step.op, inputs, [after], step.attributes, step.origin))
    return nodes


def _shapes(source: _Source, axis: int, extent: int) -> list[Shape] | None:
    """Shapes of the product and behind each view, if the last is only so long along an axis."""
    befores = [source.maker.output.shape, *(view.output.shape for view in source.views)]
    found = [_changed(befores[-1], axis, extent)]
    for view, before in zip(source.views[::-1], befores[-2::-1], strict=True):
        share = (found[0][axis], view.output.shape[axis])
        if view.op == "permute_dims":
            axes = view.attributes.get("axes") or range(len(before))[::-1]
            axis = axes[axis] % len(before)
        else:
            groups = reshape_groups(before, view.output.shape)
            old = next((old for old, new in groups or [] if axis in new), [])
            large = [each for each in old if before[each] > 1]
            if len(large) != 1:
                return None
            axis = large[0]
        if before[axis] * share[0] % share[1]:
            return None
        found.insert(0, _changed(before, axis, before[axis] * share[0] // share[1]))
    return found if axis == source.axis else None


def _changed(shape: Shape, axis: int, extent: int) -> Shape:
    return (*shape[:axis], extent, *shape[axis + 1 :])


def _spread(channels: Indices, shape: Shape, axis: int) -> Indices:
    """The channel of each number of a tensor."""
    wide = channels.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    return np.ascontiguousarray(np.broadcast_to(wide, shape))


def _viewed(view: Node, array: Indices, shape: Shape) -> Indices:
    if view.op != "permute_dims":
        return array.reshape(shape)
    axes = view.attributes.get("axes")
    return np.transpose(array, axes)
