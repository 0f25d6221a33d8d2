"""Convolutions that mix channels, computed as they are written: a tile of sums for each window."""

from __future__ import annotations

from typing import Any

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.tir import (
    Expression,
    Statement,
    block,
    load,
    loop,
    over,
    spread,
)
from profiler.kernels.window import horizontal, over_columns, vertical
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs, last_apart


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, o] = epilogue(sum over ky, kx, k of x[b, ...] weight[ky, kx, k, o])."""
    arguments = name_arguments(operator, schedule)
    convolution = _Convolution(operator, schedule, arguments)
    return arguments.function(loop(operator.input_shape[0], convolution.nest))


class _Convolution:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._arguments = arguments
        self._rows, self._columns = vertical(operator), horizontal(operator)
        self._groups = operator.groups
        self._depth = operator.input_shape[3] // operator.groups
        self._width = operator.out_channels // operator.groups
        self._lanes = schedule["lanes"]
        self._most_pixels = schedule["pixels"]
        self._n_vectors = -(-self._width // self._lanes)
        self._panels = last_apart(even_runs(self._n_vectors, schedule["vectors"]))
        self._panels_outer = bool(schedule["panels_outer"])

    def nest(self, image: Expression) -> Statement:
        """All tiles of one image."""

        def row_of(group: Expression, i: Expression, first: Expression, n: int) -> Statement:
            return over_columns(
                self._columns,
                self._most_pixels,
                lambda j, n_pixels, is_inside: self._tile(
                    (image, i, j), group, first, (n_pixels, n), is_inside=is_inside
                ),
            )

        def panels(group: Expression, i: Expression) -> Statement:
            return over(self._panels, lambda first, n: row_of(group, i, first, n))

        if self._panels_outer:
            return loop(
                self._groups,
                lambda group: over(
                    self._panels,
                    lambda first, n: loop(self._rows.n_out, lambda i: row_of(group, i, first, n)),
                ),
            )
        return loop(self._rows.n_out, lambda i: loop(self._groups, lambda group: panels(group, i)))

    def _tile(
        self,
        place: tuple[Expression, Expression, Expression],
        group: Expression,
        first: Expression,
        size: tuple[int, int],
        *,
        is_inside: bool,
    ) -> Statement:
        image, i, j = place
        n_pixels, n_vectors = size
        columns = self._columns
        lanes, depth, kernel = self._lanes, self._depth, columns.kernel
        x, weight = self._arguments["x"], self._arguments["weight"]
        output = self._arguments.output
        sums = self._arguments.sums(lanes)
        group_vector = group * self._n_vectors
        panel = group_vector * (self._rows.kernel * kernel * depth * lanes)
        panel = panel + first * (self._rows.kernel * kernel * depth * lanes)

        def term(
            ky: Expression, kx: Expression, k: Expression, pixels: range | list[int]
        ) -> Statement:
            row = self._rows.first(i) + ky * self._rows.dilation
            at = panel + ((ky * kernel + kx) * depth + k) * (n_vectors * lanes)

            def value(pixel: int) -> Expression:
                column = columns.first(j + pixel) + kx * columns.dilation
                return spread(x[image, row, column, group * depth + k], lanes)

            return block(
                *(
                    sums.put(
                        pixel * n_vectors + v,
                        sums[pixel * n_vectors + v]
                        + value(pixel) * load(weight, (at + v * lanes,), lanes),
                    )
                    for pixel in pixels
                    for v in range(n_vectors)
                )
            )

        def window_row(ky: Expression) -> Statement | None:
            if is_inside and columns.dilation == 1 and self._groups == 1:
                # A row of the window is one run of memory, in the image and in the weights.
                return loop(kernel * depth, lambda k: term(ky, 0, k, range(n_pixels)))
            if is_inside or columns.is_wide:
                first_tap, n = (0, kernel) if is_inside else columns.taps(j)
                return loop(
                    n,
                    lambda kx: loop(depth, lambda k: term(ky, kx, k, range(n_pixels))),
                    first_tap,
                )
            return block(*(tap(ky, kx) for kx in range(kernel)))

        def tap(ky: Expression, kx: int) -> Statement | None:
            pixels = [p for p in range(n_pixels) if columns.holds(j + p, kx)]
            return loop(depth, lambda k: term(ky, kx, k, pixels)) if pixels else None

        low, n_taps = self._rows.taps(i)
        channel = group * self._width + first * lanes
        padded_channel = (group_vector + first) * lanes
        return block(
            *(
                sums.put(
                    pixel * n_vectors + v,
                    self._arguments.start(padded_channel + v * lanes, lanes),
                )
                for pixel in range(n_pixels)
                for v in range(n_vectors)
            ),
            loop(n_taps, window_row, low),
            output.write(
                [
                    [sums[pixel * n_vectors + v] for v in range(n_vectors)]
                    for pixel in range(n_pixels)
                ],
                lambda pixel: (image, i, j + pixel),
                channel,
                lanes,
                self._end(first, n_vectors),
            ),
        )

    def _end(self, first: Expression, n_vectors: int) -> int | None:
        """Channels of the last panel, whose place is known and whose last vector may be ragged."""
        if not isinstance(first, int) or first + n_vectors < self._n_vectors:
            return None
        return self._width - first * self._lanes
