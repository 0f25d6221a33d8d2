"""A graph of Latloop's operators and others, back in Relax, with every tensor's place in memory.

Latloop's operators become calls of packed functions, which TVM leaves alone; what stands between
them is lowered and fused by TVM's own passes. Axes are moved only where somebody needs them
elsewhere: element-wise operations, reductions and the like take tensors as they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tvm
from tvm import relax

from profiler.generic import TensorType
from profiler.importers.channel_norm import LRN_SYMBOL, lrn_numbers, normalise_channels
from profiler.importers.graph import Graph, Node, Value
from profiler.importers.known import ELEMENTWISE
from profiler.importers.match import OURS
from profiler.importers.order import (
    Order,
    identity,
    is_same_memory,
    movable,
    reshaped,
    stored_shape,
    transposed,
)
from profiler.importers.relax_product import left_order, product
from profiler.importers.resize import resize_tables, resized, rule_of

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


class Emitter:
    """Writes one graph as a Relax function.

    Attributes:
        operators: Latloop's nodes in order of their packed functions' numbers.
    """

    def __init__(self, graph: Graph, module: tvm.IRModule) -> None:
        self._graph = graph
        self._module = module
        self._block = relax.BlockBuilder()
        self._stored: dict[Value, tuple[Any, Order]] = {}
        self._copies: dict[tuple[Value, Order], Any] = {}
        self.operators: list[Node] = []

    def emit(self) -> tvm.IRModule:
        """The module; its `main` takes the graph's inputs and returns a tuple of its outputs."""
        parameters = []
        for position, value in enumerate(self._graph.inputs):
            variable = relax.Var(f"input{position}", _tensor(value.type))
            parameters.append(variable)
            self._stored[value] = variable, identity(len(value.shape))
        with self._block.function("main", params=parameters):
            with self._block.dataflow():
                for node in self._graph.nodes:
                    self._emit_node(node)
                results = [self._as(v, identity(len(v.shape))) for v in self._graph.outputs]
                output = self._block.emit_output(relax.Tuple(results))
            self._block.emit_func_output(output)
        return self._block.finalize()

    def _emit_node(self, node: Node) -> None:
        if node.op in _ANY_ORDER:
            self._elementwise(node)
            return
        writers: dict[str, Callable[[Node], None]] = {
            OURS: self._ours,
            "permute_dims": self._transpose,
            "identity": self._rename,
            "nn.softmax": self._along_axis,
            "nn.log_softmax": self._along_axis,
            "concat": self._concat,
            "split": self._split,
            "strided_slice": self._slice,
            "nn.layer_norm": self._layer_norm,
            "nn.pad": self._pad,
            "matmul": self._product,
            "image.resize2d": self._resize,
            "take": self._take,
            LRN_SYMBOL: self._normalise_channels,
            "broadcast_to": self._broadcast,
            "argmax": self._place_of_largest,
            "argmin": self._place_of_largest,
            **dict.fromkeys(_RESHAPES, self._reshape),
            **dict.fromkeys(_REDUCTIONS, self._reduce),
        }
        writers.get(node.op, self._as_it_came)(node)

    # -- values ---------------------------------------------------------------------------------

    def _get(self, value: Value) -> tuple[Any, Order]:
        """A value where it lies."""
        if value not in self._stored:
            assert value.array is not None
            known = relax.const(value.array, value.type.dtype)
            self._stored[value] = known, identity(len(value.shape))
        return self._stored[value]

    def _as(self, value: Value, order: Order) -> Any:
        """A value with its axes in an order; moved once for all who ask."""
        if value.array is not None:
            return relax.const(np.ascontiguousarray(value.array.transpose(order)), value.type.dtype)
        variable, found = self._get(value)
        if found == order:
            return variable
        key = value, order
        if key not in self._copies:
            if is_same_memory(value.shape, found, order):
                moved = self._view(variable, stored_shape(value.shape, order))
            else:
                axes = [found.index(axis) for axis in order]
                moved = self._block.emit(relax.op.permute_dims(variable, axes))
            self._copies[key] = moved
        return self._copies[key]

    def _view(self, variable: Any, shape: tuple[int, ...]) -> Any:
        if tuple(int(e) for e in variable.ty.shape.values) == tuple(shape):
            return variable
        return self._block.emit(relax.op.reshape(variable, shape))

    def _keep(self, value: Value, expression: Any, order: Order) -> None:
        self._stored[value] = self._block.emit(expression), order

    # -- kinds of nodes -------------------------------------------------------------------------

    def _ours(self, node: Node) -> None:
        operator = node.attributes["operator"]
        if operator.kind == "add":
            orders = [self._common_order(node.inputs)] * 2
        elif operator.kind == "dense":
            orders = [identity(len(v.shape)) for v in node.inputs]
        else:
            orders = [_image_order(len(v.shape)) for v in node.inputs]
        arguments = [
            self._view(self._as(value, order), shape)
            for value, order, shape in zip(node.inputs, orders, operator.input_shapes, strict=True)
        ]
        call = relax.op.call_dps_packed(
            f"{PACKED}{len(self.operators)}",
            arguments,
            relax.TensorType(operator.output_shape, "float32"),
        )
        self.operators.append(node)
        made = self._block.emit(call)
        out = node.output
        order = orders[0] if operator.kind in {"dense", "add"} else _image_order(len(out.shape))
        self._stored[out] = self._view(made, stored_shape(out.shape, order)), order

    def _common_order(self, values: list[Value]) -> Order:
        """Where tensors of one shape lie: as our operators make them, where one of them does."""
        orders = [self._get(value)[1] for value in values]
        image = _image_order(len(values[0].shape))
        return image if image in orders else orders[0]

    def _rename(self, node: Node) -> None:
        self._stored[node.output] = self._get(node.inputs[0])

    def _transpose(self, node: Node) -> None:
        variable, order = self._get(node.inputs[0])
        rank = len(order)
        axes = node.attributes.get("axes") or list(range(rank))[::-1]
        self._stored[node.output] = variable, transposed(order, [a % rank for a in axes])

    def _reshape(self, node: Node) -> None:
        (value, *_) = node.inputs
        variable, order = self._get(value)
        shape = node.output.shape
        new_order = reshaped(value.shape, order, shape)
        if new_order is None:
            order = movable(value.shape, order, shape)
            variable, new_order = self._as(value, order), reshaped(value.shape, order, shape)
            assert new_order is not None
        self._stored[node.output] = self._view(variable, stored_shape(shape, new_order)), new_order

    def _elementwise(self, node: Node) -> None:
        out = node.output
        rank = len(out.shape)
        full = [v for v in node.inputs if v.array is None and v.shape == out.shape]
        order = self._get(full[0])[1] if full else identity(rank)
        arguments = [self._broadcastable(value, order, rank) for value in node.inputs]
        self._keep(out, self._rebuilt(node, arguments), order)

    def _broadcastable(self, value: Value, order: Order, rank: int) -> Any:
        """A value whose axes line up with an order of the output's axes."""
        if value.array is not None and value.array.size == 1:
            return relax.const(value.array.reshape(()), value.type.dtype)
        missing = rank - len(value.shape)
        shape = (1,) * missing + value.shape
        if value.array is not None:
            moved = value.array.reshape(shape).transpose(order)
            return relax.const(np.ascontiguousarray(moved), value.type.dtype)
        if not missing:
            return self._as(value, order)
        variable, found = self._get(value)
        widened = Value(TensorType(shape, value.type.dtype))
        old = (*range(missing), *(axis + missing for axis in found))
        self._stored[widened] = self._view(variable, stored_shape(shape, old)), old
        return self._as(widened, order)

    def _reduce(self, node: Node) -> None:
        value = node.inputs[0]
        variable, order = self._get(value)
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
        self._keep(node.output, op(variable, places, keepdims), new_order)

    def _along_axis(self, node: Node) -> None:
        op = getattr(relax.op.nn, node.op.removeprefix("nn."))
        variable, order = self._get(node.inputs[0])
        axis = node.attributes["axis"] % len(order)
        self._keep(node.output, op(variable, order.index(axis)), order)

    def _layer_norm(self, node: Node) -> None:
        value = node.inputs[0]
        rank = len(value.shape)
        axes = [a % rank for a in _listed(node.attributes["axes"])]
        variable, order = self._get(value)
        if list(order[rank - len(axes) :]) != axes:
            order = (*(a for a in range(rank) if a not in axes), *axes)
            variable = self._as(value, order)
        parameters = [self._as(v, identity(len(v.shape))) for v in node.inputs[1:]]
        places = list(range(rank - len(axes), rank))
        epsilon = float(node.attributes["epsilon"])
        self._keep(
            node.output, relax.op.nn.layer_norm(variable, *parameters, places, epsilon), order
        )

    def _product(self, node: Node) -> None:
        """Only a right factor whose columns do not lie side by side is moved."""
        left, right = node.inputs
        out, rank = node.output, len(right.shape)
        if min(rank, len(left.shape)) < 2 or out.type.dtype != "float32":
            self._as_it_came(node)
            return
        variable, order = self._get(left)
        columns_last = (*(a for a in self._get(right)[1] if a != rank - 1), rank - 1)
        made_order = left_order(len(left.shape), order, len(out.shape))
        orders = order, columns_last, made_order
        moved = self._as(right, columns_last)
        self._stored[out] = (
            self._block.emit_te(product, variable, moved, orders, out.shape,
                                primfunc_name_hint="matmul"),
            made_order,
        )  # fmt: skip

    def _resize(self, node: Node) -> None:
        value, out = node.inputs[0], node.output
        variable, order = self._get(value)
        rule = rule_of(node.origin.attrs)
        tables = [
            resize_tables(rule, size, wanted, wanted / size)
            for size, wanted in zip(value.shape[2:], out.shape[2:], strict=True)
        ]
        is_weighted = any(len(weights) > 1 for _, weights in tables)
        made = self._block.emit_te(
            resized,
            variable,
            (order.index(2), order.index(3)),
            [relax.const(places.astype(np.int32)) for places, _ in tables],
            [relax.const(weights) for _, weights in tables] if is_weighted else [],
            primfunc_name_hint="resize",
        )
        self._stored[out] = made, order

    def _concat(self, node: Node) -> None:
        rank = len(node.output.shape)
        axis = (node.attributes.get("axis") or 0) % rank
        moving = [v for v in node.inputs if v.array is None]
        order = self._get(moving[0])[1]
        arguments = [self._as(value, order) for value in node.inputs]
        self._keep(node.output, relax.op.concat(arguments, order.index(axis)), order)

    def _split(self, node: Node) -> None:
        variable, order = self._get(node.inputs[0])
        axis = (node.attributes.get("axis") or 0) % len(order)
        parts = node.attributes["indices_or_sections"]
        made = self._block.emit(relax.op.split(variable, parts, order.index(axis)))
        for position, value in enumerate(node.outputs):
            self._stored[value] = self._block.emit(relax.TupleGetItem(made, position)), order

    def _slice(self, node: Node) -> None:
        variable, order = self._get(node.inputs[0])
        numbers = [_listed(node.attributes[f"argument{i}"]) for i in range(1, 5)
                   if f"argument{i}" in node.attributes]  # fmt: skip
        axes, begin, end = numbers[:3]
        strides = numbers[3] if len(numbers) > 3 else [1] * len(axes)
        places = [order.index(axis % len(order)) for axis in axes]
        self._keep(
            node.output, relax.op.strided_slice(variable, places, begin, end, strides), order
        )

    def _pad(self, node: Node) -> None:
        variable, order = self._get(node.inputs[0])
        width = node.attributes["pad_width"]
        moved = [n for axis in order for n in width[2 * axis : 2 * axis + 2]]
        mode, value = node.attributes["pad_mode"], node.attributes["pad_value"]
        self._keep(node.output, relax.op.nn.pad(variable, moved, mode, value), order)

    def _take(self, node: Node) -> None:
        value, indices = node.inputs
        axis = node.attributes.get("axis")
        if axis is None or len(indices.shape) != 1 or value.array is not None:
            self._as_it_came(node)
            return
        variable, order = self._get(value)
        place = order.index(axis % len(order))
        made = relax.op.take(variable, self._as(indices, (0,)), place, "clip")
        self._keep(node.output, made, order)

    def _normalise_channels(self, node: Node) -> None:
        variable, order = self._get(node.inputs[0])
        numbers = lrn_numbers(node.attributes["symbol"])
        made = self._block.emit_te(
            normalise_channels, variable, order.index(1), numbers, primfunc_name_hint="lrn"
        )
        self._stored[node.output] = made, order

    def _broadcast(self, node: Node) -> None:
        value, shape = node.inputs[0], node.output.shape
        missing = len(shape) - len(value.shape)
        variable, order = self._get(value)
        order = (*range(missing), *(axis + missing for axis in order))
        variable = self._view(variable, stored_shape((1,) * missing + value.shape, order))
        expression = relax.op.broadcast_to(variable, stored_shape(shape, order))
        self._keep(node.output, expression, order)

    def _place_of_largest(self, node: Node) -> None:
        value = node.inputs[0]
        variable, order = self._get(value)
        axis, keepdims = node.attributes.get("axis"), bool(node.attributes.get("keepdims"))
        if axis is None:
            self._as_it_came(node)
            return
        axis %= len(order)
        op = getattr(relax.op, node.op)
        kept = [a for a in range(len(order)) if keepdims or a != axis]
        new_order = tuple(kept.index(a) for a in order if a in kept)
        self._keep(node.output, op(variable, order.index(axis), keepdims), new_order)

    def _as_it_came(self, node: Node) -> None:
        """An operation of which nothing is known here: its tensors in the model's own order."""
        arguments = [self._as(v, identity(len(v.shape))) for v in node.inputs]
        made = self._block.emit(self._rebuilt(node, arguments))
        if len(node.outputs) == 1:
            self._stored[node.output] = made, identity(len(node.output.shape))
            return
        for position, value in enumerate(node.outputs):
            item = self._block.emit(relax.TupleGetItem(made, position))
            self._stored[value] = item, identity(len(value.shape))

    def _rebuilt(self, node: Node, tensors: list[Any]) -> Any:
        """The node's Relax call on other tensors; numbers among its arguments stay."""
        origin = node.origin
        if node.op == "call_tir":
            return self._loops(node, tensors)
        if origin is None:
            return getattr(relax.op, node.op)(*tensors)
        left = iter(tensors)
        arguments = [_filled(argument, left) for argument in origin.args]
        return relax.Call(origin.op, arguments, origin.attrs)

    def _loops(self, node: Node, tensors: list[Any]) -> Any:
        name = node.attributes["loops"].name_hint
        function = self._module[name]
        variable = self._block.add_func(function, name)
        types = [_tensor(value.type) for value in node.outputs]
        return relax.call_tir(variable, tensors, types if len(types) > 1 else types[0])


def _filled(argument: Any, tensors: Any) -> Any:
    kind = argument.ty
    if isinstance(kind, relax.TupleType) and len(kind.fields):
        if isinstance(kind.fields[0], relax.TensorType):
            return relax.Tuple([next(tensors) for _ in kind.fields])
        return argument
    return next(tensors) if isinstance(kind, relax.TensorType) else argument


def _image_order(rank: int) -> Order:
    """NHWC; for a signal (batch, channels, length) the same without height."""
    orders: dict[int, Order] = {4: NHWC, 3: (0, 2, 1)}
    return orders.get(rank, identity(rank))


def _tensor(kind: TensorType) -> Any:
    return relax.TensorType(kind.shape, kind.dtype)


def _listed(value: Any) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]
