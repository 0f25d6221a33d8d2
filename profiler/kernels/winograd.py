"""Convolutions of 3x3 windows by minimal filtering: transform, multiply, transform back.

The transformed inputs of a block of squares, and the products of these with one panel of weights,
lie in one buffer of the runner's; both stay in the second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.filtering import Transforms
from profiler.kernels.tasks import Part, Task
from profiler.kernels.tir import (
    Buffer,
    Cuts,
    Expression,
    Statement,
    block,
    load,
    loop,
    number,
    over,
    store,
    where,
)
from profiler.kernels.window import Axis, horizontal, vertical
from profiler.minimal_filtering import FILTERINGS
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs

#: Three indices: image, row and column of a square, or matrix, row and column of its numbers.
Place = tuple[Expression, Expression, Expression]


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, o] = epilogue(sum over ky, kx, k of x[b, ...] weight[ky, kx, k, o])."""
    arguments = name_arguments(operator, schedule)
    return arguments.function(schedule, _Convolution(operator, schedule, arguments).nest)


@dataclass(frozen=True, slots=True)
class _Stack:
    """A matrix for each number of a transformed square, in a part of one buffer.

    Attributes:
        buffer, offset: Where.
        row, matrix: Distances between rows, and between matrices.
    """

    buffer: Buffer
    offset: int
    row: int
    matrix: int

    def load(self, place: Place, lanes: int) -> Expression:
        """Some neighbours of a matrix, a row and from a column on."""
        return load(self.buffer, self._at(place), lanes)

    def store(self, place: Place, value: Expression, lanes: int) -> Statement:
        """Write them."""
        return store(self.buffer, self._at(place), value, lanes)

    def _at(self, place: Place) -> tuple[Expression]:
        matrix, row, column = place
        return (self.offset + matrix * self.matrix + row * self.row + column,)


class _Convolution:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._arguments = arguments
        self._filtering = FILTERINGS[schedule["size"]]
        self._rows, self._columns = vertical(operator), horizontal(operator)
        self._n_images, _, _, self._depth = operator.input_shape
        self._n_channels = operator.out_channels
        self._lanes = schedule["lanes"]
        self._most_rows = schedule["rows"]
        self._panels = Cuts(even_runs(-(-self._n_channels // self._lanes), schedule["vectors"]))
        size, side = self._filtering.size, self._filtering.side
        self._n_across = -(-self._columns.n_out // size)
        self._blocks = Cuts(even_runs(-(-self._rows.n_out // size), schedule["tile_rows"]))
        self._image, self._result = self._stacks(schedule)
        self._transforms = Transforms(self._filtering, arguments.registers, self._lanes)
        self._half = arguments.registers.area("half", side * side, self._lanes)

    def _stacks(self, schedule: Schedule) -> tuple[_Stack, _Stack]:
        """Room for the transformed inputs of a block, and for the products of one panel."""
        n_squares = schedule["tile_rows"] * self._n_across

        def distances(n_columns: int) -> tuple[int, int]:
            row = _odd(n_columns, self._lanes)
            return row, _odd(n_squares * row, self._lanes)

        image, result = distances(self._depth), distances(schedule["vectors"] * self._lanes)
        offset = self._filtering.n_products * image[1]
        n_numbers = offset + self._filtering.n_products * result[1]
        buffer = tirx.decl_buffer((n_numbers,), "float32", name="squares")
        return _Stack(buffer, 0, *image), _Stack(buffer, offset, *result)

    def nest(self, task: Task) -> Statement:
        """A task's blocks of all images; tasks that share channels transform every input each."""
        images, blocks = task.rows.among(self._n_images, self._blocks.count)
        return block(
            tirx.AllocBuffer(self._image.buffer),
            images.loop(
                self._n_images,
                lambda image: blocks.loop(
                    self._blocks.count, lambda index: self._block(image, index, task.channels)
                ),
            ),
        )

    def _block(self, image: Expression, index: Expression, panels: Part) -> Statement:
        first, n_rows = self._blocks.start(index), self._blocks.size(index)

        def panel(n: Expression) -> Statement:
            return block(
                self._blocks.by_size(
                    index,
                    lambda rows: self._panels.by_size(
                        n, lambda vectors: self._multiply(rows, n, vectors)
                    ),
                ),
                self._over_squares(
                    n_rows,
                    lambda i, j, square: self._finish((image, first + i, j), square, n),
                ),
            )

        return block(
            self._over_squares(
                n_rows, lambda i, j, square: self._transform((image, first + i, j), square)
            ),
            panels.loop(self._panels.count, panel),
        )

    def _over_squares(
        self,
        n_rows: Expression,
        body: Callable[[Expression, Expression, Expression], Statement],
    ) -> Statement:
        """Run a body for each square of a block: its row, its column and its number.

        Columns whose squares leave the image are numbers, each with code of its own.
        """
        columns, size = self._columns, self._filtering.size
        inside = [
            j
            for j in range(self._n_across)
            if (j + 1) * size <= columns.n_out and columns.is_inside(j * size, size)
        ]
        border = [j for j in range(self._n_across) if j not in inside]

        def row(i: Expression) -> Statement:
            def at(j: Expression) -> Statement:
                return body(i, j, i * self._n_across + j)

            return block(loop(len(inside), at, inside[0]) if inside else None, *map(at, border))

        return loop(n_rows, row)

    def _transform(self, place: Place, square: Expression) -> Statement:
        """B^T d B of all channels of a square."""
        depth, lanes, side = self._depth, self._lanes, self._filtering.side

        def channels(v: Expression) -> Statement:
            # Where they fill no whole vectors the last one overlaps the one before it.
            channel = tirx.min(v * lanes, depth - lanes) if depth % lanes else v * lanes
            return block(
                *(self._transform_row(place, r, channel) for r in range(side)),
                *(self._transform_column(square, k, channel) for k in range(side)),
            )

        return loop(-(-depth // lanes), channels)

    def _transform_row(self, place: Place, r: int, channel: Expression) -> Statement:
        image, i, j = place
        size, side, half = self._filtering.size, self._filtering.side, self._half
        top, left = self._rows.first(i * size), self._columns.first(j * size)

        def pixel(c: int) -> Expression | None:
            if isinstance(left, int) and not 0 <= left + c < self._columns.n_in:
                return None
            return load(self._arguments["x"], (image, top + r, left + c, channel), self._lanes)

        return where(
            _is_on_image(self._rows, size, i, r),
            self._transforms.into_products(pixel, lambda k, value: half.put(r * side + k, value)),
            block(*(half.put(r * side + k, number(0.0, self._lanes)) for k in range(side))),
        )

    def _transform_column(self, square: Expression, k: int, channel: Expression) -> Statement:
        side, half = self._filtering.side, self._half
        return self._transforms.into_products(
            lambda r: half[r * side + k],
            lambda r, value: self._image.store((r * side + k, square, channel), value, self._lanes),
        )

    def _multiply(self, tile_rows: int, panel: Expression, n_vectors: int) -> Statement:
        """Products of all squares of a block with one panel, matrix by matrix."""
        rows = even_runs(tile_rows * self._n_across, self._most_rows)
        return loop(
            self._filtering.n_products,
            lambda matrix: over(
                rows, lambda row, n_rows: self._tile(matrix, row, panel, (n_rows, n_vectors))
            ),
        )

    def _tile(
        self, matrix: Expression, row: Expression, panel: Expression, size: tuple[int, int]
    ) -> Statement:
        n_rows, n_vectors = size
        lanes, depth, weight = self._lanes, self._depth, self._arguments["weight"]
        tile = self._arguments.tile(n_rows, n_vectors, lanes)
        start = self._panels.start(panel) * (self._filtering.n_products * depth * lanes)

        def step(k: Expression) -> Statement:
            at = start + (matrix * depth + k) * (n_vectors * lanes)
            return tile.add_products(
                range(n_rows),
                lambda r: self._image.load((matrix, row + r, k), 1),
                lambda v: load(weight, (at + v * lanes,), lanes),
            )

        return block(
            tile.start(lambda _: number(0.0, lanes)),
            loop(depth, step),
            *(
                self._result.store((matrix, row + r, v * lanes), value, lanes)
                for r, values in enumerate(tile.values())
                for v, value in enumerate(values)
            ),
        )

    def _finish(self, place: Place, square: Expression, panel: Expression) -> Statement:
        """A^T m A of a square and one panel, with the epilogue."""
        n_whole, n_ragged = divmod(self._n_channels, self._lanes)

        def vector(v: Expression) -> Statement:
            index = self._panels.start(panel) + v
            side, size = self._filtering.side, self._filtering.size

            def store_rows(n_channels: int) -> Statement:
                return block(*(self._finish_row(place, r, index, n_channels) for r in range(size)))

            ragged = store_rows(n_ragged) if n_ragged else None
            return block(
                *(self._finish_column(square, k, v) for k in range(side)),
                where(index < n_whole if n_ragged else None, store_rows(self._lanes), ragged),
            )

        return loop(self._panels.size(panel), vector)

    def _finish_column(self, square: Expression, k: int, v: Expression) -> Statement:
        side, half, lanes = self._filtering.side, self._half, self._lanes
        return self._transforms.from_products(
            lambda r: self._result.load((r * side + k, square, v * lanes), lanes),
            lambda r, value: half.put(r * side + k, value),
            self._filtering.size,
        )

    def _finish_row(self, place: Place, r: int, vector: Expression, n_channels: int) -> Statement:
        image, i, j = place
        arguments, lanes, half = self._arguments, self._lanes, self._half
        size, side = self._filtering.size, self._filtering.side
        outputs = arguments.registers.area("outputs", size, lanes)
        n_pixels = size
        if isinstance(j, int):
            n_pixels = min(size, self._columns.n_out - j * size)
        start = arguments.start(vector * lanes, lanes)
        made = block(
            self._transforms.from_products(
                lambda k: half[r * side + k],
                lambda c, value: outputs.put(c, value + start),
                n_pixels,
            ),
            arguments.output.write(
                [[outputs[c]] for c in range(n_pixels)],
                lambda c: (image, i * size + r, j * size + c),
                vector * lanes,
                lanes,
                n_channels,
            ),
        )
        is_ragged = r >= self._rows.n_out % size > 0
        return where(i * size + r < self._rows.n_out if is_ragged else None, made)


def _odd(n_numbers: int, lanes: int) -> int:
    """At least so many, in an odd number of vectors: powers of two apart share sets of a cache."""
    return (-(-n_numbers // lanes) | 1) * lanes


def _is_on_image(axis: Axis, size: int, i: Expression, tap: int) -> Expression | None:
    """Whether a row of a square lies on the image; None where it always does."""
    pixel = axis.first(i * size) + tap
    last = (axis.n_out - 1) // size
    conditions = []
    if axis.first(0) + tap < 0:
        conditions.append(pixel >= 0)
    if axis.first(last * size) + tap >= axis.n_in:
        conditions.append(pixel < axis.n_in)
    return tirx.all(*conditions) if conditions else None
