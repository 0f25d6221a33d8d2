"""How each operation is written in Relax for tensors as they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from tvm import relax

from profiler.generic import TensorType
from profiler.importers.channel_norm import LRN_SYMBOL
from profiler.importers.graph import Node, Value
from profiler.importers.known import ELEMENTWISE
from profiler.importers.match import OURS
from profiler.importers.order import (
    Order,
    identity,
    movable,
    reshaped,
    stored_shape,
    transposed,
)
from profiler.importers.relax_loops import write_channel_norm, write_product, write_resize

if TYPE_CHECKING:
    from profiler.importers.relax_emit import Emitter

NHWC: Final[Order] = (0, 2, 3, 1)
#: Prefix of the packed functions that stand for Latloop's operators.
PACKED: Final = "latloop."
_RESHAPES: Final = frozenset({"reshape", "squeeze", "expand_dims", "flatten"})
_REDUCTIONS: Final = frozenset({"mean", "sum", "max", "min", "prod", "variance"})
_UNARY_BY_ATTRIBUTES: Final = frozenset({
    "clip", "astype", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu", "nn.softplus", "logical_not",
    "floor", "ceil", "round", "sign", "isnan", "cos", "sin", "tan", "nn.hardswish",
    "nn.hardsigmoid", "nn.selu", "nn.elu",
})  # fmt: skip
_BINARY: Final = frozenset({
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "floor_divide", "mod",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
    "logical_or", "where",
})  # fmt: skip
_ANY_ORDER: Final = frozenset(ELEMENTWISE) - {"identity"} | _UNARY_BY_ATTRIBUTES | _BINARY


def _ours(emitter: Emitter, node: Node) -> None:
    operator = node.attributes["operator"]
    if operator.kind == "add":
        orders = [_common_order(emitter, node.inputs)] * 2
        if not operator.epilogue and any(emitter.moves(v, orders[0]) for v in node.inputs):
            # Other loops can read a tensor in another order than they write.
            _elementwise(emitter, Node("add", node.inputs, node.outputs))
            return
    elif operator.kind == "dense":
        orders = [identity(len(v.shape)) for v in node.inputs]
    else:
        orders = [_image_order(len(v.shape)) for v in node.inputs]
    arguments = [
        emitter.view(emitter.ordered(value, order), shape)
        for value, order, shape in zip(node.inputs, orders, operator.input_shapes, strict=True)
    ]
    call = relax.op.call_dps_packed(
        f"{PACKED}{len(emitter.operators)}",
        arguments,
        relax.TensorType(operator.output_shape, "float32"),
    )
    emitter.operators.append(node)
    made = emitter.block.emit(call)
    out = node.output
    order = orders[0] if operator.kind in {"dense", "add"} else _image_order(len(out.shape))
    emitter.stored[out] = emitter.view(made, stored_shape(out.shape, order)), order


def _common_order(emitter: Emitter, values: list[Value]) -> Order:
    """Where tensors of one shape lie: as our operators make them, where one of them does."""
    orders = [emitter.get(value)[1] for value in values]
    image = _image_order(len(values[0].shape))
    return image if image in orders else orders[0]


def _rename(emitter: Emitter, node: Node) -> None:
    emitter.stored[node.output] = emitter.get(node.inputs[0])


def _transpose(emitter: Emitter, node: Node) -> None:
    variable, order = emitter.get(node.inputs[0])
    rank = len(order)
    axes = node.attributes.get("axes") or list(range(rank))[::-1]
    emitter.stored[node.output] = variable, transposed(order, [a % rank for a in axes])


def _reshape(emitter: Emitter, node: Node) -> None:
    (value, *_) = node.inputs
    variable, order = emitter.get(value)
    shape = node.output.shape
    new_order = reshaped(value.shape, order, shape)
    if new_order is None:
        order = movable(value.shape, order, shape)
        variable, new_order = emitter.ordered(value, order), reshaped(value.shape, order, shape)
        assert new_order is not None
    emitter.stored[node.output] = emitter.view(variable, stored_shape(shape, new_order)), new_order


def _elementwise(emitter: Emitter, node: Node) -> None:
    out = node.output
    rank = len(out.shape)
    whole = [v for v in node.inputs if v.array is None and len(v.shape) == rank]
    largest = max(whole, key=lambda v: v.type.n_elements, default=None)
    order = identity(rank) if largest is None else emitter.get(largest)[1]
    arguments = [_broadcastable(emitter, value, order, rank) for value in node.inputs]
    emitter.keep(out, emitter.rebuilt(node, arguments), order)


def _broadcastable(emitter: Emitter, value: Value, order: Order, rank: int) -> Any:
    """A value whose axes line up with an order of the output's axes."""
    if value.array is not None and value.array.size == 1:
        return relax.const(value.array.reshape(()), value.type.dtype)
    missing = rank - len(value.shape)
    shape = (1,) * missing + value.shape
    if value.array is not None:
        moved = value.array.reshape(shape).transpose(order)
        return relax.const(np.ascontiguousarray(moved), value.type.dtype)
    if not missing:
        return emitter.ordered(value, order)
    variable, found = emitter.get(value)
    widened = Value(TensorType(shape, value.type.dtype))
    old = (*range(missing), *(axis + missing for axis in found))
    emitter.stored[widened] = emitter.view(variable, stored_shape(shape, old)), old
    return emitter.ordered(widened, order)


def _reduce(emitter: Emitter, node: Node) -> None:
    value = node.inputs[0]
    variable, order = emitter.get(value)
    rank = len(order)
    axes = node.attributes.get("axis")
    axes = list(range(rank)) if axes is None else [a % rank for a in _listed(axes)]
    keepdims = bool(node.attributes.get("keepdims"))
    places = [order.index(axis) for axis in axes]
    op = getattr(relax.op, node.op)
    if keepdims:
        new_order = order
    else:
        kept = [axis for axis in range(rank) if axis not in axes]
        new_order = tuple(kept.index(axis) for axis in order if axis in kept)
    emitter.keep(node.output, op(variable, places, keepdims), new_order)


def _along_axis(emitter: Emitter, node: Node) -> None:
    op = getattr(relax.op.nn, node.op.removeprefix("nn."))
    variable, order = emitter.get(node.inputs[0])
    axis = node.attributes["axis"] % len(order)
    emitter.keep(node.output, op(variable, order.index(axis)), order)


def _layer_norm(emitter: Emitter, node: Node) -> None:
    value = node.inputs[0]
    rank = len(value.shape)
    axes = [a % rank for a in _listed(node.attributes["axes"])]
    variable, order = emitter.get(value)
    if list(order[rank - len(axes) :]) != axes:
        order = (*(a for a in range(rank) if a not in axes), *axes)
        variable = emitter.ordered(value, order)
    parameters = [emitter.ordered(v, identity(len(v.shape))) for v in node.inputs[1:]]
    places = list(range(rank - len(axes), rank))
    epsilon = float(node.attributes["epsilon"])
    emitter.keep(node.output, relax.op.nn.layer_norm(variable, *parameters, places, epsilon), order)


def _concat(emitter: Emitter, node: Node) -> None:
    rank = len(node.output.shape)
    axis = (node.attributes.get("axis") or 0) % rank
    moving = [v for v in node.inputs if v.array is None]
    order = emitter.get(moving[0])[1]
    arguments = [emitter.ordered(value, order) for value in node.inputs]
    emitter.keep(node.output, relax.op.concat(arguments, order.index(axis)), order)


def _split(emitter: Emitter, node: Node) -> None:
    variable, order = emitter.get(node.inputs[0])
    axis = (node.attributes.get("axis") or 0) % len(order)
    parts = node.attributes["indices_or_sections"]
    made = emitter.block.emit(relax.op.split(variable, parts, order.index(axis)))
    for position, value in enumerate(node.outputs):
        emitter.stored[value] = emitter.block.emit(relax.TupleGetItem(made, position)), order


def _slice(emitter: Emitter, node: Node) -> None:
    variable, order = emitter.get(node.inputs[0])
    numbers = [_listed(node.attributes[f"argument{i}"]) for i in range(1, 5)
               if f"argument{i}" in node.attributes]  # fmt: skip
    axes, begin, end = numbers[:3]
    strides = numbers[3] if len(numbers) > 3 else [1] * len(axes)
    places = [order.index(axis % len(order)) for axis in axes]
    emitter.keep(node.output, relax.op.strided_slice(variable, places, begin, end, strides), order)


def _pad(emitter: Emitter, node: Node) -> None:
    variable, order = emitter.get(node.inputs[0])
    width = node.attributes["pad_width"]
    moved = [n for axis in order for n in width[2 * axis : 2 * axis + 2]]
    mode, value = node.attributes["pad_mode"], node.attributes["pad_value"]
    emitter.keep(node.output, relax.op.nn.pad(variable, moved, mode, value), order)


def _take(emitter: Emitter, node: Node) -> None:
    value, indices = node.inputs
    axis = node.attributes.get("axis")
    if axis is None or len(indices.shape) != 1 or value.array is not None:
        emitter.as_it_came(node)
        return
    variable, order = emitter.get(value)
    place = order.index(axis % len(order))
    made = relax.op.take(variable, emitter.ordered(indices, (0,)), place, "clip")
    emitter.keep(node.output, made, order)


def _broadcast(emitter: Emitter, node: Node) -> None:
    value, shape = node.inputs[0], node.output.shape
    missing = len(shape) - len(value.shape)
    variable, order = emitter.get(value)
    order = (*range(missing), *(axis + missing for axis in order))
    variable = emitter.view(variable, stored_shape((1,) * missing + value.shape, order))
    expression = relax.op.broadcast_to(variable, stored_shape(shape, order))
    emitter.keep(node.output, expression, order)


def _place_of_largest(emitter: Emitter, node: Node) -> None:
    value = node.inputs[0]
    variable, order = emitter.get(value)
    axis, keepdims = node.attributes.get("axis"), bool(node.attributes.get("keepdims"))
    if axis is None:
        emitter.as_it_came(node)
        return
    axis %= len(order)
    op = getattr(relax.op, node.op)
    kept = [a for a in range(len(order)) if keepdims or a != axis]
    new_order = tuple(kept.index(a) for a in order if a in kept)
    emitter.keep(node.output, op(variable, order.index(axis), keepdims), new_order)


def _image_order(rank: int) -> Order:
    """NHWC; for a signal (batch, channels, length) the same without height."""
    orders: dict[int, Order] = {4: NHWC, 3: (0, 2, 1)}
    return orders.get(rank, identity(rank))


def _listed(value: Any) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]


#: How each operation is written; the others are taken as they came.
WRITERS: Final[Mapping[str, Callable[[Emitter, Node], None]]] = {
    **dict.fromkeys(_ANY_ORDER, _elementwise),
    OURS: _ours,
    "permute_dims": _transpose,
    "identity": _rename,
    "nn.softmax": _along_axis,
    "nn.log_softmax": _along_axis,
    "concat": _concat,
    "split": _split,
    "strided_slice": _slice,
    "nn.layer_norm": _layer_norm,
    "nn.pad": _pad,
    "matmul": write_product,
    "image.resize2d": write_resize,
    "take": _take,
    LRN_SYMBOL: write_channel_norm,
    "broadcast_to": _broadcast,
    "argmax": _place_of_largest,
    "argmin": _place_of_largest,
    **dict.fromkeys(_RESHAPES, _reshape),
    **dict.fromkeys(_REDUCTIONS, _reduce),
}
