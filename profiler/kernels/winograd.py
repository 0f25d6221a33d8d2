"""Convolutions of 3x3 windows by minimal filtering: transform, multiply, transform back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.tir import (
    Buffer,
    Expression,
    Registers,
    Statement,
    block,
    load,
    loop,
    number,
    over,
    spread,
    store,
)
from profiler.kernels.window import Axis, horizontal, vertical
from profiler.minimal_filtering import FILTERINGS
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs, last_apart

Read = Callable[[int], Expression | None]
Write = Callable[[int, Expression], Statement]


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, o] = epilogue(sum over ky, kx, k of x[b, ...] weight[ky, kx, k, o])."""
    arguments = name_arguments(operator, schedule)
    convolution = _Convolution(operator, schedule, arguments)
    return arguments.function(convolution.nest())


@dataclass(frozen=True, slots=True)
class _Stack:
    """A matrix of numbers for each product of a square, in a part of one buffer.

    Attributes:
        buffer, offset: Where.
        row, matrix: Distances between rows, and between matrices.
    """

    buffer: Buffer
    offset: int
    row: int
    matrix: int

    def at(self, product: Expression, row: Expression, column: Expression) -> tuple[Expression]:
        """Where a number lies."""
        return (self.offset + product * self.matrix + row * self.row + column,)


def _odd(length: int, lanes: int) -> int:
    """A length in vectors, an odd number of them: powers of two apart they share few cache sets."""
    return (-(-length // lanes) | 1) * lanes


class _Convolution:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._arguments = arguments
        self._filtering = FILTERINGS[schedule["size"]]
        self._rows, self._columns = vertical(operator), horizontal(operator)
        self._n_images, _, _, self._depth = operator.input_shape
        self._n_channels = operator.out_channels
        self._lanes = schedule["lanes"]
        self._most_rows = schedule["rows"]
        n_vectors = -(-self._n_channels // self._lanes)
        self._panels = last_apart(even_runs(n_vectors, schedule["vectors"]))
        size = self._filtering.size
        self._n_across = -(-self._columns.n_out // size)
        self._blocks = even_runs(-(-self._rows.n_out // size), schedule["tile_rows"])
        self._image, self._result = self._stacks(self._blocks[0].size, schedule["vectors"])

    def _stacks(self, tile_rows: int, vectors: int) -> tuple[_Stack, _Stack]:
        """Room for the transformed inputs of a block, and for the products of one panel."""
        n_squares, n_products = tile_rows * self._n_across, self._filtering.n_products
        lanes = self._lanes
        row, result_row = _odd(self._depth, lanes), _odd(vectors * lanes, lanes)
        matrix, result_matrix = _odd(n_squares * row, lanes), _odd(n_squares * result_row, lanes)
        offset = n_products * matrix
        buffer = tirx.decl_buffer((offset + n_products * result_matrix,), "float32", name="squares")
        return _Stack(buffer, 0, row, matrix), _Stack(buffer, offset, result_row, result_matrix)

    def nest(self) -> Statement:
        """All blocks of all images."""
        return block(
            tirx.AllocBuffer(self._image.buffer),
            loop(
                self._n_images,
                lambda image: over(
                    self._blocks, lambda first, n_rows: self._block(image, first, n_rows)
                ),
            ),
        )

    def _block(self, image: Expression, first: Expression, n_rows: int) -> Statement:
        def panel(vector: Expression, n_vectors: int) -> Statement:
            return block(
                self._multiply(n_rows * self._n_across, vector, n_vectors),
                self._over_squares(
                    n_rows,
                    lambda i, j, square: self._finish(
                        (image, first + i, j), square, vector, n_vectors
                    ),
                ),
            )

        return block(
            self._over_squares(
                n_rows, lambda i, j, square: self._transform((image, first + i, j), square)
            ),
            over(self._panels, panel),
        )

    def _over_squares(
        self, n_rows: int, body: Callable[[Expression, Expression, Expression], Statement]
    ) -> Statement:
        """Run a body for each square of a block: its row, its column and its number.

        Columns whose squares leave the image are numbers, each with code of its own.
        """
        size, side = self._filtering.size, self._filtering.side
        across = self._columns
        inside = [
            j
            for j in range(self._n_across)
            if across.first(j * size) >= 0
            and across.first(j * size) + side <= across.n_in
            and (j + 1) * size <= across.n_out
        ]
        border = [j for j in range(self._n_across) if j not in inside]

        def row(i: Expression) -> Statement:
            def at(j: Expression) -> Statement:
                return body(i, j, i * self._n_across + j)

            return block(loop(len(inside), at, inside[0]) if inside else None, *map(at, border))

        return loop(n_rows, row)

    def _transform(
        self, place: tuple[Expression, Expression, Expression], square: Expression
    ) -> Statement:
        """B^T d B of one square, of all channels."""
        image, i, j = place
        filtering, lanes, x = self._filtering, self._lanes, self._arguments["x"]
        size, side = filtering.size, filtering.side
        top, left = self._rows.first(i * size), self._columns.first(j * size)
        half = self._arguments.registers.area("half", side * side, lanes)

        def row_of(r: int, channel: Expression) -> Statement:
            def pixel(c: int) -> Expression | None:
                if isinstance(left, int) and not 0 <= left + c < self._columns.n_in:
                    return None
                return load(x, (image, top + r, left + c, channel), lanes)

            made = self._into_products(pixel, lambda k, value: half.put(r * side + k, value))
            return _where(
                _is_inside(self._rows, size, i, r),
                made,
                block(*(half.put(r * side + k, number(0.0, lanes)) for k in range(side))),
            )

        def column_of(k: int, channel: Expression) -> Statement:
            return self._into_products(
                lambda r: half[r * side + k],
                lambda r, value: store(
                    self._image.buffer,
                    self._image.at(r * side + k, square, channel),
                    value,
                    lanes,
                ),
            )

        def channels(v: Expression) -> Statement:
            # The last vector overlaps the one before it where channels fill no whole vectors.
            channel = v * lanes
            if self._depth % lanes:
                channel = tirx.min(channel, self._depth - lanes)
            return block(
                *(row_of(r, channel) for r in range(side)),
                *(column_of(k, channel) for k in range(side)),
            )

        return loop(-(-self._depth // lanes), channels)

    def _multiply(self, n_squares: int, vector: Expression, n_vectors: int) -> Statement:
        """Products of all squares of a block with one panel, matrix by matrix."""
        return loop(
            self._filtering.n_products,
            lambda product: over(
                even_runs(n_squares, self._most_rows),
                lambda row, n_rows: self._tile(product, (row, n_rows), (vector, n_vectors)),
            ),
        )

    def _tile(
        self,
        product: Expression,
        rows: tuple[Expression, int],
        vectors: tuple[Expression, int],
    ) -> Statement:
        (row, n_rows), (vector, n_vectors) = rows, vectors
        lanes, depth, weight = self._lanes, self._depth, self._arguments["weight"]
        sums = self._arguments.sums(lanes)
        tile = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
        panel = vector * (self._filtering.n_products * depth * lanes)

        def step(k: Expression) -> Statement:
            at = panel + (product * depth + k) * (n_vectors * lanes)

            def term(r: int, v: int) -> Expression:
                value = load(self._image.buffer, self._image.at(product, row + r, k), 1)
                return spread(value, lanes) * load(weight, (at + v * lanes,), lanes)

            return block(*(sums.put(i, sums[i] + term(r, v)) for i, (r, v) in enumerate(tile)))

        return block(
            *(sums.put(i, number(0.0, lanes)) for i in range(len(tile))),
            loop(depth, step),
            *(
                store(
                    self._result.buffer,
                    self._result.at(product, row + r, v * lanes),
                    sums[i],
                    lanes,
                )
                for i, (r, v) in enumerate(tile)
            ),
        )

    def _finish(
        self,
        place: tuple[Expression, Expression, Expression],
        square: Expression,
        vector: Expression,
        n_vectors: int,
    ) -> Statement:
        """A^T m A of one square and one panel, with the epilogue."""
        n_ragged = 0
        if isinstance(vector, int) and (vector + n_vectors) * self._lanes > self._n_channels:
            n_ragged = self._n_channels % self._lanes
        n_whole = n_vectors - bool(n_ragged)

        def whole(v: Expression) -> Statement:
            return self._finish_vector(place, square, (vector, v), self._lanes)

        return block(
            loop(n_whole, whole) if n_whole else None,
            self._finish_vector(place, square, (vector, n_whole), n_ragged) if n_ragged else None,
        )

    def _finish_vector(
        self,
        place: tuple[Expression, Expression, Expression],
        square: Expression,
        vector: tuple[Expression, Expression],
        n_channels: int,
    ) -> Statement:
        image, i, j = place
        filtering, lanes, result = self._filtering, self._lanes, self._result
        size, side = filtering.size, filtering.side
        half = self._arguments.registers.area("half", side * side, lanes)
        outputs = self._arguments.registers.area("outputs", size, lanes)
        first, v = vector
        channel = (first + v) * lanes
        n_across = size
        if isinstance(j, int):
            n_across = min(size, self._columns.n_out - j * size)

        def column_of(k: int) -> Statement:
            return self._from_products(
                lambda r: load(
                    result.buffer, result.at(r * side + k, square, v * lanes), lanes
                ),
                lambda r, value: half.put(r * side + k, value),
                size,
            )

        def row_of(r: int) -> Statement:
            start = self._arguments.start(channel, lanes)
            stored = self._arguments.output.write(
                [[outputs[c] + start] for c in range(n_across)],
                lambda c: (image, i * size + r, j * size + c),
                channel,
                lanes,
                n_channels,
            )
            found = block(
                self._from_products(lambda k: half[r * side + k], outputs.put, n_across), stored
            )
            is_ragged = r >= self._rows.n_out % size > 0
            return _where(i * size + r < self._rows.n_out if is_ragged else None, found)

        return block(*map(column_of, range(side)), *map(row_of, range(size)))

    def _into_products(self, read: Read, put: Write) -> Statement:
        """B^T = H Q along one axis."""
        filtering = self._filtering
        names = self._arguments.registers.area("names", filtering.side, self._lanes)
        inner = [_combine(row, read, self._lanes) for row in filtering.image]
        named = block(*(names.put(k, value) for k, value in enumerate(inner)))
        return block(named, *self._pairs_apart(names, put))

    def _from_products(self, read: Read, put: Write, n_outputs: int) -> Statement:
        """A^T = R H along one axis."""
        filtering = self._filtering
        named = self._arguments.registers.area("named", 2 * filtering.side, self._lanes)
        summed = self._arguments.registers.area("summed", filtering.side, self._lanes)
        return block(
            *(named.put(k, read(k)) for k in range(filtering.side)),
            *self._pairs_apart(named, summed.put),
            *(
                put(k, _combine(row, summed.__getitem__, self._lanes))
                for k, row in enumerate(filtering.result[:n_outputs])
            ),
        )

    def _pairs_apart(self, names: Registers, put: Write) -> list[Statement]:
        """H: the sum and the difference of each pair."""
        last = self._filtering.side - 1
        found = [put(0, names[0])]
        for k in self._filtering.pairs():
            found += [put(k, names[k] + names[k + 1]), put(k + 1, names[k] - names[k + 1])]
        return [*found, put(last, names[last])]


def _combine(factors: Sequence[float], read: Read, lanes: int) -> Expression:
    """The sum of vectors times numbers; where `read` gives None there are zeros."""
    total = None
    for index, factor in enumerate(factors):
        value = read(index) if factor else None
        if value is None:
            continue
        term = value if factor == 1 else value * number(float(factor), lanes)
        total = term if total is None else total + term
    return number(0.0, lanes) if total is None else total


def _is_inside(axis: Axis, size: int, i: Expression, tap: int) -> Expression | None:
    """Whether a row of a square lies on the image; None where it always does."""
    first = axis.first(i * size) + tap
    conditions = []
    if axis.first(0) + tap < 0:
        conditions.append(first >= 0)
    if axis.first((-(-axis.n_out // size) - 1) * size) + tap >= axis.n_in:
        conditions.append(first < axis.n_in)
    return tirx.all(*conditions) if conditions else None


def _where(
    condition: Expression | None, then: Statement, otherwise: Statement | None = None
) -> Statement:
    return then if condition is None else tirx.IfThenElse(condition, then, otherwise)
