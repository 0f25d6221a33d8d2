"""Sums over a whole image, and operators that pass once over memory."""

from __future__ import annotations

from typing import Any

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.tasks import Task
from profiler.kernels.tir import Expression, Statement, block, load, loop, number
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule


def write_mean(operator: Operator, schedule: Schedule) -> Any:
    """out[b, 0, 0, c] = epilogue(mean over i, j of x[b, i, j, c])."""
    arguments = name_arguments(operator, schedule)
    n_images, height, width, n_channels = operator.input_shape
    channels = (n_channels, schedule["vectors"], schedule["lanes"])

    def mean(b: Expression, channel: Expression, n_vectors: int, lanes: int) -> Statement:
        tile = arguments.tile(1, n_vectors, lanes)

        def pixel(i: Expression, j: Expression) -> Statement:
            values = [
                load(arguments["x"], (b, i, j, channel + v * lanes), lanes)
                for v in range(n_vectors)
            ]
            return block(*(tile.put(0, v, tile[0, v] + value) for v, value in enumerate(values)))

        return block(
            tile.start(lambda _: number(0.0, lanes)),
            loop(height, lambda i: loop(width, lambda j: pixel(i, j))),
            arguments.output.write(tile.means(height * width), lambda _: (b, 0, 0), channel, lanes),
        )

    return arguments.function(
        schedule,
        lambda task: task.rows.loop(
            n_images,
            lambda b: task.channels.over_channels(
                *channels, lambda c, n, lanes: mean(b, c, n, lanes)
            ),
        ),
    )


def write_once(operator: Operator, schedule: Schedule) -> Any:
    """out[b, i, j, c] = epilogue(x[b, i, j, c] + y[b, i, j, c], or times factor[b, 0, 0, c])."""
    arguments = name_arguments(operator, schedule)
    n_images, height, width, n_channels = operator.input_shape
    channels = (n_channels, schedule["vectors"], schedule["lanes"])

    def values(place: tuple[Any, ...], channel: Expression, n: int, lanes: int) -> Statement:
        found = [_combine(operator, arguments, place, channel + v * lanes, lanes) for v in range(n)]
        return arguments.output.write([found], lambda _: place, channel, lanes)

    def part(task: Task) -> Statement:
        images, rows = task.rows.among(n_images, height)

        def pixel(*place: Expression) -> Statement:
            return task.channels.over_channels(
                *channels, lambda c, n, lanes: values(place, c, n, lanes)
            )

        return images.loop(
            n_images,
            lambda b: rows.loop(height, lambda i: loop(width, lambda j: pixel(b, i, j))),
        )

    return arguments.function(schedule, part)


def _combine(
    operator: Operator, arguments: Arguments, place: tuple[Any, ...], c: Expression, lanes: int
) -> Expression:
    value = load(arguments["x"], (*place, c), lanes)
    if operator.kind == "add":
        return value + load(arguments["y"], (*place, c), lanes)
    return value * load(arguments["factor"], (place[0], 0, 0, c), lanes)
