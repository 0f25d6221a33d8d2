"""Windows that keep channels apart: depthwise convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from tvm import tirx

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.panels import Tile
from profiler.kernels.tasks import ALL, Task
from profiler.kernels.tir import Expression, Statement, block, load, number
from profiler.kernels.window import Windows, horizontal, over_windows, vertical
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule

_LEAST: Final = -3.4028234663852886e38  # the lowest float32


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, c] = epilogue(sum, mean or maximum over the window of x[b, ..., c])."""
    arguments = name_arguments(operator, schedule)
    windows = _Windows(operator, schedule, arguments)
    return arguments.function(schedule, windows.nest)


def write_rows(
    operator: Operator,
    schedule: Schedule,
    arguments: Arguments,
    rows: tuple[Expression, Expression, Expression],
) -> Statement:
    """The statements of some rows of an image's outputs: the image, the first row, how many."""
    return _Windows(operator, schedule, arguments).some_rows(ALL, *rows)


class _Windows:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._operator = operator
        self._arguments = arguments
        self._rows, self._columns = vertical(operator), horizontal(operator)
        self._channels = (operator.out_channels, schedule["vectors"], schedule["lanes"])
        self._most_pixels = schedule["pixels"]
        self._channels_outer = bool(schedule["channels_outer"])

    def nest(self, task: Task) -> Statement:
        """A task's tiles of all images."""
        n_images, n_rows = self._operator.input_shape[0], self._rows.n_out
        images, rows = task.rows.among(n_images, n_rows)
        mine = Task(rows, task.channels)
        return images.loop(n_images, lambda image: self.some_rows(mine, image, 0, n_rows))

    def some_rows(
        self, task: Task, image: Expression, first: Expression, n_rows: Expression
    ) -> Statement:
        """A task's tiles of some rows of an image's outputs."""
        if self._channels_outer:
            return task.channels.over_channels(
                *self._channels,
                lambda c, n, lanes: task.rows.loop(
                    n_rows, lambda i: self._row(image, first + i, c, n, lanes)
                ),
            )
        return task.rows.loop(
            n_rows,
            lambda i: task.channels.over_channels(
                *self._channels, lambda c, n, lanes: self._row(image, first + i, c, n, lanes)
            ),
        )

    def _row(
        self, image: Expression, i: Expression, channel: Expression, n_vectors: int, lanes: int
    ) -> Statement:
        return over_windows(
            (self._rows, self._columns),
            (image, i),
            self._most_pixels,
            lambda windows: self._tile(windows, channel, n_vectors, lanes),
        )

    def _tile(self, windows: Windows, channel: Expression, n_vectors: int, lanes: int) -> Statement:
        tile = self._arguments.tile(windows.n_pixels, n_vectors, lanes)

        def add(ky: Expression, kx: Expression, pixels: Sequence[int]) -> Statement:
            return self._tap(tile, windows, channel, (ky, kx), pixels)

        def window_row(ky: Expression) -> Statement:
            if self._columns.is_wide:
                return windows.over_taps(lambda kx: add(ky, kx, windows.pixels))
            return windows.each_tap(lambda kx, pixels: add(ky, kx, pixels))

        is_mean = self._operator.kind == "avg_pool2d"
        return block(
            tile.start(lambda v: self._start(channel + v * lanes, lanes)),
            windows.over_rows(window_row),
            self._arguments.output.write(
                tile.means(math.prod(self._operator.kernel)) if is_mean else tile.values(),
                windows.output,
                channel,
                lanes,
            ),
        )

    def _tap(
        self,
        tile: Tile,
        windows: Windows,
        channel: Expression,
        tap: tuple[Expression, Expression],
        pixels: Sequence[int],
    ) -> Statement:
        """Take what lies under one tap of some outputs' windows into their sums."""
        x, lanes = self._arguments["x"], tile.registers.lanes
        found = []
        for v in range(tile.n_vectors):
            at = channel + v * lanes
            weight = self._weight(*tap, at, lanes)
            for pixel in pixels:
                value = load(x, (*windows.under(pixel, *tap), at), lanes)
                found.append(tile.put(pixel, v, self._add(tile[pixel, v], value, weight)))
        return block(*found)

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
