"""Convolutions that mix channels, computed as they are written: a tile of sums for each window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.panels import Panel, Panels
from profiler.kernels.tasks import Task
from profiler.kernels.tir import Expression, Statement, block, load, loop
from profiler.kernels.window import Windows, horizontal, over_windows, vertical
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, o] = epilogue(sum over ky, kx, k of x[b, ...] weight[ky, kx, k, o])."""
    arguments = name_arguments(operator, schedule)
    convolution = _Convolution(operator, schedule, arguments)
    return arguments.function(schedule, convolution.nest)


class _Convolution:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._arguments = arguments
        self._n_images = operator.input_shape[0]
        self._rows, self._columns = vertical(operator), horizontal(operator)
        self._n_groups = operator.groups
        self._depth = operator.input_shape[3] // operator.groups
        self._lanes = schedule["lanes"]
        self._most_pixels = schedule["pixels"]
        self._panels = Panels(operator, schedule)
        self._panels_outer = bool(schedule["panels_outer"])

    def nest(self, task: Task) -> Statement:
        """A task's tiles of all images."""
        n_rows, panels = self._rows.n_out, task.channels
        images, rows = task.rows.among(self._n_images, n_rows)

        def tiles(image: Expression) -> Statement:
            if self._panels_outer:
                return self._panels.over(
                    panels,
                    lambda panel: rows.loop(n_rows, lambda i: self._row(image, i, panel)),
                )
            return rows.loop(
                n_rows,
                lambda i: self._panels.over(panels, lambda panel: self._row(image, i, panel)),
            )

        return images.loop(self._n_images, tiles)

    def _row(self, image: Expression, i: Expression, panel: Panel) -> Statement:
        return over_windows(
            (self._rows, self._columns),
            (image, i),
            self._most_pixels,
            lambda windows: self._tile(windows, panel),
        )

    def _tile(self, windows: Windows, panel: Panel) -> Statement:
        arguments, lanes = self._arguments, self._lanes
        x, weight = arguments["x"], arguments["weight"]
        tile = arguments.tile(windows.n_pixels, panel.n_vectors, lanes)
        first_weight = self._first_weight(panel)
        first_input = panel.group * self._depth

        def add(ky: Expression, kx: Expression, k: Expression, pixels: Sequence[int]) -> Statement:
            term = (ky * self._columns.kernel + kx) * self._depth + k
            at = first_weight + term * (panel.n_vectors * lanes)
            return tile.add_products(
                pixels,
                lambda pixel: x[(*windows.under(pixel, ky, kx), first_input + k)],
                lambda v: load(weight, (at + v * lanes,), lanes),
            )

        first_bias = (panel.group * self._panels.n_vectors + panel.first) * lanes
        return block(
            tile.start(lambda v: arguments.start(first_bias + v * lanes, lanes)),
            windows.over_rows(lambda ky: self._window_row(windows, ky, add)),
            arguments.output.write(
                tile.values(),
                windows.output,
                panel.group * self._panels.width + panel.first * lanes,
                lanes,
                panel.n_channels,
            ),
        )

    def _first_weight(self, panel: Panel) -> Expression:
        of_vector = self._rows.kernel * self._columns.kernel * self._depth * self._lanes
        return panel.group * self._panels.n_vectors * of_vector + panel.first * of_vector

    def _window_row(
        self,
        windows: Windows,
        ky: Expression,
        add: Callable[[Expression, Expression, Expression, Sequence[int]], Statement],
    ) -> Statement:
        """All terms of one row of the windows."""
        depth = self._depth
        if windows.is_inside and self._columns.dilation == 1 and self._n_groups == 1:
            # One run of memory, in the image and in the weights.
            n_terms = self._columns.kernel * depth
            return loop(n_terms, lambda k: add(ky, 0, k, windows.pixels))
        if windows.is_inside or self._columns.is_wide:
            return windows.over_taps(
                lambda kx: loop(depth, lambda k: add(ky, kx, k, windows.pixels))
            )
        return windows.each_tap(lambda kx, pixels: loop(depth, lambda k: add(ky, kx, k, pixels)))
