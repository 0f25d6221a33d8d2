"""A graph of Latloop's operators and others, back in Relax, with every tensor's place in memory.

Latloop's operators become calls of packed functions, which TVM leaves alone; what stands between
them is lowered and fused by TVM's own passes. Axes are moved only where somebody needs them
elsewhere: element-wise operations, reductions and the like take tensors as they lie.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np
import tvm
from tvm import relax

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value
from profiler.importers.order import (
    Order,
    identity,
    is_same_memory,
    stored_shape,
)
from profiler.importers.relax_writers import WRITERS


class Emitter:
    """Writes one graph as a Relax function.

    Attributes:
        block: Where expressions are emitted.
        stored: What has been made of each value, and the order in which its axes lie.
        operators: Latloop's nodes in order of their packed functions' numbers.
    """

    def __init__(self, graph: Graph, module: tvm.IRModule) -> None:
        self._graph = graph
        self._module = module
        self.block = relax.BlockBuilder()
        self.stored: dict[Value, tuple[Any, Order]] = {}
        self._copies: dict[tuple[Value, Order], Any] = {}
        self.operators: list[Node] = []

    def emit(self) -> tvm.IRModule:
        """The module; its `main` takes the graph's inputs and returns a tuple of its outputs."""
        parameters = []
        for position, value in enumerate(self._graph.inputs):
            variable = relax.Var(f"input{position}", _tensor(value.type))
            parameters.append(variable)
            self.stored[value] = variable, identity(len(value.shape))
        with self.block.function("main", params=parameters):
            with self.block.dataflow():
                for node in self._graph.nodes:
                    self._emit_node(node)
                results = [self.ordered(v, identity(len(v.shape))) for v in self._graph.outputs]
                output = self.block.emit_output(relax.Tuple(results))
            self.block.emit_func_output(output)
        return self.block.finalize()

    def _emit_node(self, node: Node) -> None:
        writer = WRITERS.get(node.op)
        if writer is None:
            self.as_it_came(node)
        else:
            writer(self, node)

    # -- values ---------------------------------------------------------------------------------

    def get(self, value: Value) -> tuple[Any, Order]:
        """A value where it lies."""
        if value not in self.stored:
            assert value.array is not None
            known = relax.const(value.array, value.type.dtype)
            self.stored[value] = known, identity(len(value.shape))
        return self.stored[value]

    def ordered(self, value: Value, order: Order) -> Any:
        """A value with its axes in an order; moved once for all who ask."""
        if value.array is not None:
            moved = value.array.transpose(order)
            # A number without axes would be given one.
            whole = np.ascontiguousarray(moved).reshape(moved.shape)
            return relax.const(whole, value.type.dtype)
        variable, found = self.get(value)
        if found == order:
            return variable
        key = value, order
        if key not in self._copies:
            if is_same_memory(value.shape, found, order):
                moved = self.view(variable, stored_shape(value.shape, order))
            else:
                axes = [found.index(axis) for axis in order]
                moved = self.block.emit(relax.op.permute_dims(variable, axes))
            self._copies[key] = moved
        return self._copies[key]

    def moves(self, value: Value, order: Order) -> bool:
        """Whether a value would have to be moved to lie in an order."""
        is_there = is_same_memory(value.shape, self.get(value)[1], order)
        return not is_there and (value, order) not in self._copies

    def view(self, variable: Any, shape: tuple[int, ...]) -> Any:
        """The same memory under another shape."""
        if tuple(int(e) for e in variable.ty.shape.values) == tuple(shape):
            return variable
        return self.block.emit(relax.op.reshape(variable, shape))

    def keep(self, value: Value, expression: Any, order: Order) -> None:
        """Let an expression, whose axes lie in an order, make a value."""
        self.stored[value] = self.block.emit(expression), order

    def as_it_came(self, node: Node) -> None:
        """An operation of which nothing is known here: its tensors in the model's own order."""
        arguments = [self.ordered(v, identity(len(v.shape))) for v in node.inputs]
        made = self.block.emit(self.rebuilt(node, arguments))
        if len(node.outputs) == 1:
            self.stored[node.output] = made, identity(len(node.output.shape))
            return
        for position, value in enumerate(node.outputs):
            item = self.block.emit(relax.TupleGetItem(made, position))
            self.stored[value] = item, identity(len(value.shape))

    def rebuilt(self, node: Node, tensors: list[Any]) -> Any:
        """The node's Relax call on other tensors; numbers among its arguments stay."""
        origin = node.origin
        if node.op == "call_tir":
            return self._loops(node, tensors)
        if origin is None:
            return attrgetter(node.op)(relax.op)(*tensors)
        left = iter(tensors)
        arguments = [_filled(argument, left) for argument in origin.args]
        return relax.Call(origin.op, arguments, origin.attrs)

    def _loops(self, node: Node, tensors: list[Any]) -> Any:
        name = node.attributes["loops"].name_hint
        function = self._module[name]
        variable = self.block.add_func(function, name)
        types = [_tensor(value.type) for value in node.outputs]
        return relax.call_tir(variable, tensors, types if len(types) > 1 else types[0])


def _filled(argument: Any, tensors: Any) -> Any:
    kind = argument.ty
    if isinstance(kind, relax.TupleType) and len(kind.fields):
        if isinstance(kind.fields[0], relax.TensorType):
            return relax.Tuple([next(tensors) for _ in kind.fields])
        return argument
    return next(tensors) if isinstance(kind, relax.TensorType) else argument


def _tensor(kind: TensorType) -> Any:
    return relax.TensorType(kind.shape, kind.dtype)
