"""A depthwise convolution and the pointwise one that reads it, band by band."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.sym import Analyzer

from profiler.kernels import channelwise, gemm
from profiler.kernels.arguments import Arguments
from profiler.kernels.epilogue import Output
from profiler.kernels.tasks import Task, run
from profiler.kernels.tir import (
    Buffer,
    Cuts,
    Expression,
    Index,
    RegisterFile,
    Statement,
    block,
    function,
)
from profiler.layout import argument_shapes
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.separable import halves, of_band
from profiler.schedules.tiles import even_runs


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, o] = pointwise(depthwise(x))[b, i, j, o], both with their epilogues."""
    convolution = _Separable(operator, schedule)
    body = run(schedule, convolution.registers, convolution.nest)
    return function(tuple(convolution.buffers.values()), body)


def _name_buffers(operator: Operator, schedule: Schedule) -> dict[str, Buffer]:
    residual = ("residual",) if "add" in operator.epilogue else ()
    first = ("depthwise_weight", "depthwise_bias")[: len(operator.depthwise.weight_shapes)]
    second = ("weight", "bias")[: len(operator.pointwise.weight_shapes)]
    names = ("x", *residual, *first, *second, "out")
    shapes = argument_shapes(operator, schedule)
    return {
        name: tirx.decl_buffer(shape, "float32", name=name)
        for name, shape in zip(names, shapes, strict=True)
    }


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Rows of a matrix in a buffer of one axis; of two, TVM fails to find what is used."""

    buffer: Buffer
    n_columns: int

    def at(self, row: Expression, column: Expression) -> Index:
        """Where in the buffer a number lies."""
        return (row * self.n_columns + column,)

    def __getitem__(self, place: tuple[Expression, Expression]) -> Expression:
        return self.buffer[self.at(*place)]


class _Separable:
    def __init__(self, operator: Operator, schedule: Schedule) -> None:
        self.buffers: Mapping[str, Buffer] = _name_buffers(operator, schedule)
        self.registers = RegisterFile()
        self._operator = operator
        self._halves = halves(schedule)
        self._n_images, self._n_rows, self._width, depth = operator.pointwise.input_shape
        self._bands = Cuts(even_runs(self._n_rows, schedule["band"]))
        n_numbers = self._bands.runs[0].size * self._width * depth
        self._between = _Matrix(tirx.decl_buffer((n_numbers,), "float32", name="between"), depth)

    def nest(self, task: Task) -> Statement:
        """A task's bands of all images."""
        images, bands = task.rows.among(self._n_images, self._bands.count)
        return block(
            tirx.AllocBuffer(self._between.buffer),
            images.loop(
                self._n_images,
                lambda image: bands.loop(self._bands.count, lambda i: self._band(image, i)),
            ),
        )

    def _band(self, image: Expression, index: Expression) -> Statement:
        first, n_rows = self._bands.start(index), self._bands.size(index)
        return block(
            self._depthwise(image, first, n_rows),
            self._bands.by_size(index, lambda size: self._pointwise(image, first, size)),
        )

    def _depthwise(self, image: Expression, first: Expression, n_rows: Expression) -> Statement:
        depthwise = self._operator.depthwise

        def seat(index: Index) -> Index:
            _, row, column, channel = index
            inside = Analyzer().simplify(row - first)  # plain, lest TVM divide by zero
            return self._between.at(inside * self._width + column, channel)

        arguments = Arguments(
            self._some(x="x", weight="depthwise_weight", bias="depthwise_bias"),
            Output(depthwise, self._between.buffer, None, self.registers, seat),
            self.registers,
        )
        return channelwise.write_rows(depthwise, self._halves[0], arguments, (image, first, n_rows))

    def _pointwise(self, image: Expression, first: Expression, n_rows: int) -> Statement:
        pointwise = of_band(self._operator, n_rows)
        start = (image * self._n_rows + first) * self._width
        residual = self.buffers.get("residual")
        arguments = Arguments(
            {"x": self._between, **self._some(weight="weight", bias="bias")},
            Output(
                pointwise,
                self.buffers["out"],
                residual,
                self.registers,
                lambda index: (start + index[0], index[1]),
            ),
            self.registers,
        )
        return gemm.write_product(pointwise, self._halves[1], arguments)

    def _some(self, **names: str) -> dict[str, Buffer]:
        """Some of the buffers under other names; those that there are."""
        return {name: self.buffers[own] for name, own in names.items() if own in self.buffers}
