"""What windows over an image have in common: where they leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tvm import tirx

from profiler.kernels.tir import Expression, Index, Statement, block, loop
from profiler.operator import Operator
from profiler.schedules.tiles import Run, even_runs

#: Taps of a row of the window that are written out one by one; more of them are a loop.
MOST_WRITTEN_OUT: Final = 9


@dataclass(frozen=True, slots=True)
class Columns:
    """Tiles of neighbouring outputs in a row, all inside of the image or all at its border.

    Attributes:
        run: The tiles.
        is_inside: No window of theirs leaves the image to the left or right.
    """

    run: Run
    is_inside: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an image under a window.

    Attributes:
        n_in, n_out: Pixels of input and output.
        kernel, stride, dilation: Of the window.
        before: Padding before the first pixel.
    """

    n_in: int
    n_out: int
    kernel: int
    stride: int
    dilation: int
    before: int

    def first(self, position: Expression) -> Expression:
        """The pixel under the window's first tap, which may lie outside."""
        return position * self.stride - self.before

    def holds(self, position: int, tap: int) -> bool:
        """Whether a tap falls on a pixel."""
        pixel = position * self.stride - self.before + tap * self.dilation
        return 0 <= pixel < self.n_in

    def is_inside(self, start: int, size: int) -> bool:
        """Whether the windows of so many outputs stay on the image."""
        ends = (start, start + size - 1)
        return all(self.holds(at, tap) for at in ends for tap in (0, self.kernel - 1))

    @property
    def is_wide(self) -> bool:
        """Whether the taps at the border are found as the kernel runs, output by output."""
        return self.kernel > MOST_WRITTEN_OUT

    def tiles(self, most: int) -> tuple[Columns, ...]:
        """Even tiles of outputs, those at the border apart from those inside."""
        found = []
        for run in even_runs(self.n_out, most):
            starts = range(run.start, run.end, run.size)
            inside = [start for start in starts if self.is_inside(start, run.size)]
            border = [start for start in starts if start not in inside]
            if inside:
                found.append(Columns(Run(inside[0], len(inside), run.size), is_inside=True))
            for start in border:
                tile = Run(start, run.size, 1) if self.is_wide else Run(start, 1, run.size)
                found.append(Columns(tile, is_inside=False))
        return tuple(found)

    def taps(self, position: Expression) -> tuple[Expression, Expression]:
        """The first tap on the image and how many there are, for any output."""
        last = self.n_out - 1
        if self.is_inside(0, self.n_out):
            return 0, self.kernel
        first = self.first(position)
        low: Expression = 0
        if self.first(0) < 0:
            low = tirx.max(0, tirx.floordiv(self.dilation - 1 - first, self.dilation))
        high: Expression = self.kernel
        if not self.holds(last, self.kernel - 1):
            high = tirx.min(self.kernel, tirx.floordiv(self.n_in - 1 - first, self.dilation) + 1)
        return low, high - low


def vertical(operator: Operator) -> Axis:
    """Rows of an operator with a window."""
    return _axis(operator, 0)


def horizontal(operator: Operator) -> Axis:
    """Columns of an operator with a window."""
    return _axis(operator, 1)


def _axis(operator: Operator, index: int) -> Axis:
    return Axis(
        n_in=operator.input_shape[1 + index],
        n_out=operator.output_shape[1 + index],
        kernel=operator.kernel[index],
        stride=operator.stride[index],
        dilation=operator.dilation[index],
        before=operator.padding[index],
    )


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of neighbouring outputs in a row.

    Attributes:
        rows, columns: Of the image.
        image, row, column: Where the first output lies.
        n_pixels: How many outputs.
        is_inside: No window leaves the image to the left or right.
    """

    rows: Axis
    columns: Axis
    image: Expression
    row: Expression
    column: Expression
    n_pixels: int
    is_inside: bool

    @property
    def pixels(self) -> range:
        """All outputs, counted from the first."""
        return range(self.n_pixels)

    def output(self, pixel: Expression) -> Index:
        """An output's indices before the channel."""
        return (self.image, self.row, self.column + pixel)

    def under(self, pixel: int, ky: Expression, kx: Expression) -> Index:
        """Indices, before the channel, of the input under a tap of an output's window."""
        row = self.rows.first(self.row) + ky * self.rows.dilation
        column = self.columns.first(self.column + pixel) + kx * self.columns.dilation
        return (self.image, row, column)

    def over_rows(self, body: Callable[[Expression], Statement]) -> Statement:
        """Run a body for each row of the windows that lies on the image."""
        first, n_taps = self.rows.taps(self.row)
        return loop(n_taps, body, first)

    def over_taps(self, body: Callable[[Expression], Statement]) -> Statement:
        """Run a body, as a loop, for each tap of a row; at the image's border, of one window."""
        if self.is_inside:
            return loop(self.columns.kernel, body)
        assert self.n_pixels == 1
        first, n_taps = self.columns.taps(self.column)
        return loop(n_taps, body, first)

    def each_tap(self, body: Callable[[int, Sequence[int]], Statement]) -> Statement:
        """Write out a body for each tap of a row, with the outputs whose tap lies on the image."""
        taps = [(kx, self._held(kx)) for kx in range(self.columns.kernel)]
        return block(*(body(kx, pixels) for kx, pixels in taps if pixels))

    def _held(self, kx: int) -> Sequence[int]:
        if self.is_inside:
            return self.pixels
        return [pixel for pixel in self.pixels if self.columns.holds(self.column + pixel, kx)]


def over_windows(
    axes: tuple[Axis, Axis],
    row: tuple[Expression, Expression],
    most: int,
    body: Callable[[Windows], Statement],
) -> Statement:
    """Run a body for each tile of a row of outputs.

    Args:
        axes: Rows and columns.
        row: The image and the row in it.
        most: Outputs of a tile, at most.
        body: Takes the tile's windows.
    """

    def each(columns: Columns) -> Statement:
        run = columns.run
        return loop(
            run.count,
            lambda i: body(
                Windows(*axes, *row, run.start + i * run.size, run.size, columns.is_inside)
            ),
        )

    return block(*(each(columns) for columns in axes[1].tiles(most)))
