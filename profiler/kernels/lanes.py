"""Expressions of single numbers, as vectors of neighbours along one of their variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import tvm
from tvm import sym, tirx

from profiler.fast_math import FUNCTIONS, Name
from profiler.kernels.steps import OtherFormError
from profiler.kernels.tasks import Part
from profiler.kernels.tir import Buffer, Expression, Statement, load, number, spread
from profiler.schedules.generic import nodes_of

_BINARY: Final = (
    tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min,
    tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.And, tirx.Or,
)  # fmt: skip
_MOST_ELEMENTS: Final = 2**31

#: A buffer, and an index of it.
Place = tuple[Buffer, tuple[Expression, ...]]
Child = Callable[[Expression], Expression]


class Views:
    """The tensors of a function, as buffers of a kernel of ours.

    Args:
        parameters: Of the function, in order.

    Raises:
        OtherFormError: not all are float32 tensors with axes.
    """

    def __init__(self, parameters: Sequence[Any]) -> None:
        self._buffers = {}
        for position, parameter in enumerate(parameters):
            shape = [int(extent) for extent in parameter.shape]
            if not shape or math.prod(shape) >= _MOST_ELEMENTS:
                raise OtherFormError("a single number, or more of them than 32 bits count")
            if str(parameter.dtype) != "float32":
                raise OtherFormError("not float32 alone")
            self._buffers[parameter] = tirx.decl_buffer(shape, "float32", name=f"p{position}")

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """What a kernel of ours takes."""
        return tuple(self._buffers.values())

    def __contains__(self, buffer: Buffer) -> bool:
        return buffer in self._buffers

    def at(self, buffer: Buffer, number: Expression) -> Place:
        """The buffer that stands for a tensor, and an index of its n-th number in C order.

        The last index may go beyond its axis: neighbours in memory need not share a row.
        """
        found = self._buffers[buffer]
        return found, (*[0] * (len(found.shape) - 1), number)


class Index:
    """A place in a tensor, as a sum of variables times distances.

    Args:
        buffer: The tensor.
        indices: The place.

    Raises:
        OtherFormError: it is no such sum.
    """

    def __init__(self, buffer: Buffer, indices: Sequence[Expression]) -> None:
        self.distances: dict[Any, int] = {}
        self._first = 0
        distance = 1
        for extent, index in reversed(list(zip(buffer.shape, indices, strict=True))):
            self._add(index, distance)
            distance *= int(extent)

    def _add(self, index: Expression, distance: int) -> None:
        variables = list(dict.fromkeys(_variables(index)))
        found = sym.detect_linear_equation(index, variables) if variables else [index]
        if not len(found) or not all(isinstance(each, tirx.IntImm) for each in found):
            raise OtherFormError(f"a place that is no sum of variables: {index}")
        *factors, first = (int(each) for each in found)
        for variable, factor in zip(variables, factors, strict=True):
            self.distances[variable] = self.distances.get(variable, 0) + factor * distance
        self._first += first * distance

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Index) or self._first != other._first:
            return False
        variables = {*self.distances, *other.distances}
        return all(self.distance(v) == other.distance(v) for v in variables)

    __hash__ = None  # type: ignore[assignment]  # nothing keeps places in sets

    def at(self, places: Mapping[Any, Expression]) -> Expression:
        """The place for given values of all variables."""
        terms = (places[v] * distance for v, distance in self.distances.items() if distance)
        return sum(terms, start=self._first)

    def distance(self, variable: Any) -> int:
        """Numbers between neighbours along a variable; 0 where it is not in the place."""
        return self.distances.get(variable, 0)


def _variables(expression: Expression) -> list[Any]:
    return [node for node in nodes_of(expression) if isinstance(node, tirx.Var)]


class Reader:
    """Writes expressions of a function's loops as vectors.

    Args:
        views: The function's tensors.
        column: The variable along which vectors lie.
        keep: Keeps what a row has one number of, so that it is computed once.

    Attributes:
        places: What the other variables are where the code that is written stands.
        moving: How tensors that exist in registers alone are read, from a column on.
        standing: The same of those of which a row has one number.
    """

    def __init__(self, views: Views, column: Any, keep: Child = lambda value: value) -> None:
        self._views = views
        self._column = column
        self._keep = keep
        self.places: dict[Any, Expression] = {}
        self.moving: dict[Any, Callable[[Expression, int], Expression]] = {}
        self.standing: dict[Any, Expression] = {}

    def over(
        self, variables: Mapping[Any, int], parts: Sequence[Part], body: Callable[[], Statement]
    ) -> Statement:
        """Loops over some variables, the last one inside, around a body that reads `places`.

        Args:
            variables: With their extents.
            parts: What a task runs of each loop.
            body: Inside of all of them.
        """
        if not variables:
            return body()
        (variable, extent), *inner = variables.items()

        def inside(place: Expression) -> Statement:
            self.places[variable] = place
            return self.over(dict(inner), parts[1:], body)

        return parts[0].loop(extent, inside)

    def vector(self, value: Expression, first: Expression, lanes: int, name: Name) -> Expression:
        """An expression for so many columns.

        Args:
            value: Of single numbers.
            first: The first column.
            lanes: How many.
            name: Keeps vectors that are read several times.

        Raises:
            OtherFormError: it holds what cannot be a vector.
        """
        if self._stands(value):
            return spread(self.number(value), lanes)

        def child(part: Expression) -> Expression:
            return self.vector(part, first, lanes, name)

        if isinstance(value, tvm.ir.TensorLoad):
            return self._loaded(value, first, lanes)
        if isinstance(value, tirx.Div) and self._stands(value.b):
            inverse = spread(self._keep(number(1.0) / self._number(value.b)), lanes)
            return child(value.a) * inverse
        return _made(value, child, name)

    def number(self, value: Expression) -> Expression:
        """An expression of which a row has one number."""
        if isinstance(value, tirx.FloatImm):
            return number(float(value.value))
        made = self._number(value)
        is_kept = isinstance(value, tvm.ir.TensorLoad) and value.source in self.standing
        return made if is_kept else self._keep(made)

    def _number(self, value: Expression) -> Expression:
        if isinstance(value, tvm.ir.TensorLoad):
            return self._loaded(value, 0, 1)
        return _made(value, self._number, None)

    def _stands(self, value: Expression) -> bool:
        return not any(
            self._column.same_as(node)
            or (isinstance(node, tvm.ir.TensorLoad) and node.source in self.moving)
            for node in nodes_of(value)
        )

    def _loaded(self, value: Any, first: Expression, lanes: int) -> Expression:
        if value.source in self.standing:
            return self.standing[value.source]
        if value.source in self.moving:
            return self.moving[value.source](first, lanes)
        if value.source not in self._views:
            raise OtherFormError("a tensor that is read before it is made")
        return load(*self.place(value.source, value.indices, first), lanes)

    def place(self, buffer: Buffer, indices: Sequence[Expression], first: Expression) -> Place:
        """Where a tensor of the function is read or written, from a column on."""
        index = Index(buffer, indices)
        if index.distance(self._column) not in {0, 1}:
            raise OtherFormError("columns that do not lie side by side")
        return self._views.at(buffer, index.at({**self.places, self._column: first}))


def _made(value: Expression, child: Child, name: Name) -> Expression:
    """An expression of other values in the place of its parts."""
    if isinstance(value, tirx.FloatImm):
        return number(float(value.value))
    if isinstance(value, _BINARY):
        return type(value)(child(value.a), child(value.b))
    if isinstance(value, tirx.Not):
        return tirx.Not(child(value.a))
    if isinstance(value, tirx.Select):
        parts = value.condition, value.true_value, value.false_value
        return tirx.Select(*(child(part) for part in parts))
    if isinstance(value, tvm.ir.Call):
        return _called(value, child, name)
    raise OtherFormError(f"{type(value).__name__} is no arithmetic of numbers")


def _called(call: Any, child: Child, name: Name) -> Expression:
    symbol = getattr(call.op, "name", "")
    if symbol in FUNCTIONS:
        return FUNCTIONS[symbol](child(call.args[0]), name)
    if symbol == "tirx.sqrt":
        return tirx.sqrt(child(call.args[0]))
    if symbol == "tirx.rsqrt":
        return number(1.0) / tirx.sqrt(child(call.args[0]))
    if symbol == "tirx.pow" and isinstance(call.args[1], tirx.FloatImm):
        return _power(child(call.args[0]), float(call.args[1].value), name)
    raise OtherFormError(f"{symbol or call} is no vector of numbers")


def _power(x: Expression, exponent: float, name: Name) -> Expression:
    """x^exponent where square roots and products make it."""
    quarters = exponent * 4
    if name is None or quarters not in {1.0, 2.0, 3.0, 4.0, 6.0, 8.0}:
        raise OtherFormError(f"a power of {exponent}")
    x = name(x)
    root = name(tirx.sqrt(x))
    made = {1.0: tirx.sqrt(root), 2.0: root, 4.0: x, 6.0: x * root, 8.0: x * x}
    return root * tirx.sqrt(root) if quarters == 3.0 else made[quarters]
