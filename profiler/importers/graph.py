"""A model as nodes over values, between TVM's Relax and Latloop's operators.

Values are single assignment; nodes stand in an order that can be executed. A constant is a value
with an array. Nothing here needs TVM: `origin` is opaque.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.generic import TensorType

Array = NDArray[Any]


@dataclass(eq=False, slots=True)
class Value:
    """A tensor of the model.

    Attributes:
        type: Shape and element type.
        array: What a constant holds; None for what depends on an input.
        name: What the model calls it, where it is an input or an output.
    """

    type: TensorType
    array: Array | None = None
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        return self.type.shape


@dataclass(eq=False, slots=True)
class Node:
    """An operation.

    Attributes:
        op: Relax's name of it without `relax.`, such as `nn.conv2d`; `call_tir` for loops that the
            front end wrote itself; a name with `@` for one of Latloop's operators.
        inputs, outputs: Values.
        attributes: Numbers of the operation.
        origin: The Relax call, for operations that are handed back as they came.
    """

    op: str
    inputs: list[Value]
    outputs: list[Value]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    origin: Any = None

    @property
    def output(self) -> Value:
        """The only output."""
        (value,) = self.outputs
        return value


@dataclass(slots=True)
class Graph:
    """A whole model.

    Attributes:
        nodes: In an order that can be executed.
        inputs, outputs: Values by which it is called.
    """

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]

    def readers(self) -> dict[Value, list[Node]]:
        """Nodes that read each value; one that reads it twice is named twice."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                found.setdefault(value, []).append(node)
        return found

    def makers(self) -> dict[Value, Node]:
        """The node that makes each value."""
        return {value: node for node in self.nodes for value in node.outputs}

    def drop_unread(self) -> None:
        """Take away nodes whose outputs nobody reads."""
        needed = set(self.outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if needed.isdisjoint(node.outputs):
                continue
            kept.append(node)
            needed.update(node.inputs)
        self.nodes = kept[::-1]

    def replace(self, old: Value, new: Value) -> None:
        """Let everybody read another value in place of one."""
        for node in self.nodes:
            node.inputs = [new if value is old else value for value in node.inputs]
        self.outputs = [new if value is old else value for value in self.outputs]


def constant(array: Array) -> Value:
    """A value that is known."""
    # Not made contiguous: a transpose of a large weight would be copied once more than needed.
    return Value(TensorType(tuple(array.shape), str(array.dtype)), np.asarray(array))


def walk_single(value: Value, readers: Mapping[Value, list[Node]]) -> Iterator[Node]:
    """The only reader of a value, then the only reader of what that makes, and so on."""
    while len(readers.get(value, ())) == 1:
        node = readers[value][0]
        yield node
        if len(node.outputs) != 1:
            return
        value = node.output
