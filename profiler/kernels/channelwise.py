"""Windows that keep channels apart: depthwise convolutions and pooling."""

from __future__ import annotations

import math
from typing import Any, Final

from tvm import tirx

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.tir import (
    Expression,
    Statement,
    block,
    load,
    loop,
    number,
    over_channels,
)
from profiler.kernels.window import horizontal, over_columns, vertical
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule

_LEAST: Final = -3.4028234663852886e38  # the lowest float32


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, c] = epilogue(sum, mean or maximum over the window of x[b, ..., c])."""
    arguments = name_arguments(operator, schedule)
    windows = _Windows(operator, schedule, arguments)
    return arguments.function(loop(operator.input_shape[0], windows.nest))


class _Windows:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._operator = operator
        self._arguments = arguments
        self._rows, self._columns = vertical(operator), horizontal(operator)
        self._channels = (operator.out_channels, schedule["vectors"], schedule["lanes"])
        self._most_pixels = schedule["pixels"]
        self._channels_outer = bool(schedule["channels_outer"])

    def nest(self, image: Expression) -> Statement:
        """All tiles of one image."""
        n_rows = self._rows.n_out
        if self._channels_outer:
            return over_channels(
                *self._channels,
                lambda c, n, lanes: loop(n_rows, lambda i: self._row(image, i, c, n, lanes)),
            )
        return loop(
            n_rows,
            lambda i: over_channels(
                *self._channels, lambda c, n, lanes: self._row(image, i, c, n, lanes)
            ),
        )

    def _row(
        self, image: Expression, i: Expression, channel: Expression, n_vectors: int, lanes: int
    ) -> Statement:
        return over_columns(
            self._columns,
            self._most_pixels,
            lambda j, n_pixels, is_inside: self._tile(
                (image, i, j), (channel, n_vectors, lanes), n_pixels, is_inside=is_inside
            ),
        )

    def _tile(
        self,
        place: tuple[Expression, Expression, Expression],
        channels: tuple[Expression, int, int],
        n_pixels: int,
        *,
        is_inside: bool,
    ) -> Statement:
        image, i, j = place
        channel, n_vectors, lanes = channels
        x, columns = self._arguments["x"], self._columns
        sums = self._arguments.sums(lanes)

        def tap(ky: Expression, kx: Expression, pixels: range | list[int]) -> Statement:
            row = self._rows.first(i) + ky * self._rows.dilation

            def value(pixel: int, at: Expression) -> Expression:
                column = columns.first(j + pixel) + kx * columns.dilation
                return load(x, (image, row, column, at), lanes)

            found = []
            for v in range(n_vectors):
                at = channel + v * lanes
                weight = self._weight(ky, kx, at, lanes)
                for pixel in pixels:
                    index = pixel * n_vectors + v
                    found.append(sums.put(index, self._add(sums[index], value(pixel, at), weight)))
            return block(*found)

        def window_row(ky: Expression) -> Statement:
            if columns.is_wide:
                first, n = (0, columns.kernel) if is_inside else columns.taps(j)
                return loop(n, lambda kx: tap(ky, kx, range(n_pixels)), first)
            taps = []
            for kx in range(columns.kernel):
                pixels = [p for p in range(n_pixels) if is_inside or columns.holds(j + p, kx)]
                if pixels:
                    taps.append(tap(ky, kx, pixels))
            return block(*taps)

        low, n_taps = self._rows.taps(i)
        every = [(pixel, v) for pixel in range(n_pixels) for v in range(n_vectors)]
        return block(
            *(
                sums.put(pixel * n_vectors + v, self._start(channel + v * lanes, lanes))
                for pixel, v in every
            ),
            loop(n_taps, window_row, low),
            self._arguments.output.write(
                [
                    [self._finish(sums[p * n_vectors + v], lanes) for v in range(n_vectors)]
                    for p in range(n_pixels)
                ],
                lambda pixel: (image, i, j + pixel),
                channel,
                lanes,
            ),
        )

    def _weight(
        self, ky: Expression, kx: Expression, channel: Expression, lanes: int
    ) -> Expression | None:
        if self._operator.kind != "depthwise_conv2d":
            return None
        return load(self._arguments["weight"], (ky, kx, channel), lanes)

    def _add(self, total: Expression, value: Expression, weight: Expression | None) -> Expression:
        if self._operator.kind == "max_pool2d":
            return tirx.max(total, value)
        return total + value if weight is None else total + value * weight

    def _start(self, channel: Expression, lanes: int) -> Expression:
        if self._operator.kind == "max_pool2d":
            return number(_LEAST, lanes)
        return self._arguments.start(channel, lanes)

    def _finish(self, total: Expression, lanes: int) -> Expression:
        if self._operator.kind != "avg_pool2d":
            return total
        return total * number(1 / math.prod(self._operator.kernel), lanes)
