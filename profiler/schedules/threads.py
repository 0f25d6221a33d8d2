"""Schedules for several threads: each schedule of one thread, with its tiles shared among tasks.

`row_tasks` tasks share the rows of a product or of an image (of several images, the images),
`channel_tasks` tasks its output channels. A task has neighbouring tiles, as many as any other or
one more, and tiles are made smaller where that divides them better. What is over sooner than the
threads are there stays with one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from profiler.generic import LoopForm
from profiler.operator import Operator
from profiler.schedules import (
    conv,
    elementwise,
    gemm,
    generic,
    matmul,
    rowwise,
    separable,
    window,
    winograd,
)
from profiler.schedules.schedule import CHANNEL_TASKS, ROW_TASKS, Schedule
from profiler.schedules.tiles import best_shared, even_runs, pieces, unevenness
from profiler.target import Target

#: What starting tasks and waiting for them takes, in cycles of one core.
_LAUNCH_CYCLES: Final = 1000
#: Up to so many times as much one thread is expected to be the faster, and may be it.
_TINY: Final = 2
_SMALL: Final = 12
#: How much more than its fair share the task with most work may have, over that of the best form.
_WORST: Final = 1.25
#: From here on tiles of another size, each slower, are tried.
_UNEVEN: Final = 1.08


def shared(
    operator: Operator, schedules: Sequence[Schedule], target: Target
) -> tuple[Schedule, ...]:
    """Schedules of one thread in their best forms for a target of several; the same order."""
    cycles = _cycles(operator, target)
    if cycles < _LAUNCH_CYCLES:
        return tuple(schedules)
    found = [form for schedule in schedules for form in forms(operator, schedule, target.threads)]
    if cycles < _TINY * _LAUNCH_CYCLES:
        found.insert(0, schedules[0])
    elif cycles < _SMALL * _LAUNCH_CYCLES:
        found.append(schedules[0])
    return tuple(dict.fromkeys(found))


def _cycles(operator: Operator, target: Target) -> float:
    """What one thread takes at best: two fused multiply-adds, or one vector of memory, a cycle."""
    n_bytes = operator.input_bytes + operator.output_bytes + operator.weight_bytes
    return max(operator.n_flops / (4 * target.lanes), n_bytes / target.vector_bytes)


def forms(operator: Operator, schedule: Schedule, n: int) -> Iterator[Schedule]:
    """A schedule of one thread for n of them, whatever starting tasks may cost.

    Rows shared, channels shared, or the one and the other; as it is if neither can be.
    """
    rated = []
    for name, axis in _AXES.get(schedule.rule, {}).items():
        sizes = [schedule, *axis.evened(operator, schedule, n)]
        ratings = [(unevenness(axis.tiles(operator, each, n), n), each) for each in sizes]
        rating, best = ratings[0]
        if rating > _UNEVEN:
            rating, best = min(ratings, key=lambda rated: rated[0])
        if rating < n:  # else one task does everything
            rated.append((rating, replace(best, parameters=(*best.parameters, (name, n)))))
    if not rated:
        yield schedule
        return
    least = min(rating for rating, _ in rated)
    rated.sort(key=lambda rated: rated[0] > _UNEVEN * least)
    yield from (form for rating, form in rated if rating <= _WORST * least)


@dataclass(frozen=True, slots=True)
class _Axis:
    """What tasks share.

    Attributes:
        tiles: The work of each tile or loop pass that a task may have, in order.
        cut: What cuts the tiles, where they can be cut otherwise: the parameter that holds their
            size, and the length that is cut.
    """

    tiles: Callable[[Operator, Schedule, int], list[int]]
    cut: tuple[str, Callable[[Operator, Schedule], int]] | None = None

    def evened(self, operator: Operator, schedule: Schedule, n: int) -> Iterator[Schedule]:
        """The schedule with as many tiles for each task."""
        if self.cut is not None:
            parameter, measure = self.cut
            length = measure(operator, schedule)
            n_tiles = -(-length // schedule[parameter])
            n_each = -(-n_tiles // n)
            size = -(-length // (n_each * n))
            changed = dict(schedule.parameters) | {parameter: size}
            yield replace(schedule, parameters=tuple(changed.items()))


def _sizes(length: int, most: int) -> list[int]:
    """Of even tiles of a length."""
    return [run.size for run in even_runs(length, most) for _ in range(run.count)]


def _n_vectors(operator: Operator, schedule: Schedule) -> int:
    """Vectors of the output channels of one group."""
    return -(-operator.out_channels // operator.groups // schedule["lanes"])


def _n_rows(operator: Operator, _: Schedule) -> int:
    """Rows of a matrix product over all pixels."""
    return math.prod(operator.input_shape[:3])


def _n_square_rows(operator: Operator, schedule: Schedule) -> int:
    """Rows of squares of an image."""
    return -(-operator.output_shape[1] // schedule["size"])


def _row_tiles(operator: Operator, schedule: Schedule, _: int) -> list[int]:
    return _sizes(_n_rows(operator, schedule), schedule["rows"])


def _panels(operator: Operator, schedule: Schedule, _: int) -> list[int]:
    if operator.groups > 1:
        return [1] * operator.groups
    return _sizes(_n_vectors(operator, schedule), schedule["vectors"])


def _image_rows(operator: Operator, _: Schedule, n: int) -> list[int]:
    return _of_images(operator, [1] * operator.output_shape[1], n)


def _square_blocks(operator: Operator, schedule: Schedule, n: int) -> list[int]:
    tiles = _sizes(_n_square_rows(operator, schedule), schedule["tile_rows"])
    return _of_images(operator, tiles, n)


def _n_output_rows(operator: Operator, _: Schedule) -> int:
    """Rows of an image's outputs."""
    return operator.output_shape[1]


def _bands(operator: Operator, schedule: Schedule, n: int) -> list[int]:
    return _of_images(operator, _sizes(operator.output_shape[1], schedule["band"]), n)


def _of_images(operator: Operator, tiles: list[int], n: int) -> list[int]:
    """Tiles of an image, or whole images where tasks share those."""
    n_images = operator.input_shape[0]
    return [1] * n_images if best_shared((n_images, len(tiles)), n) == 0 else tiles


def _images(operator: Operator, _: Schedule, __: int) -> list[int]:
    return [1] * operator.input_shape[0]


def _channel_blocks(operator: Operator, schedule: Schedule, _: int) -> list[int]:
    lanes = schedule["lanes"]
    n_whole, rest = divmod(operator.out_channels, lanes)
    whole = [lanes * size for size in _sizes(n_whole, schedule["vectors"])] if n_whole else []
    return whole + [narrow for _, narrow in pieces(rest, lanes)]


def _form_rows(operator: Operator, schedule: Schedule, _: int) -> list[int]:
    return _sizes(_form(operator).n_rows, schedule["rows"])


def _form_columns(operator: Operator, schedule: Schedule, _: int) -> list[int]:
    n_vectors = -(-_form(operator).n_columns // schedule["lanes"])
    return _sizes(n_vectors, schedule["vectors"])


def _form_lines(operator: Operator, _: Schedule, __: int) -> list[int]:
    return [1] * _form(operator).n_rows


def _form(operator: Operator) -> LoopForm:
    assert operator.body is not None
    assert operator.body.form is not None
    return operator.body.form


def _any_loop(_: Operator, __: Schedule, n: int) -> list[int]:
    """Which loop can be shared, the compiler finds out."""
    return [1] * n


#: What the kernels of a rule can share; those of a rule that is not here stay with one thread.
_AXES: Final[Mapping[str, Mapping[str, _Axis]]] = {
    gemm.RULE: {
        ROW_TASKS: _Axis(_row_tiles, ("rows", _n_rows)),
        CHANNEL_TASKS: _Axis(_panels, ("vectors", _n_vectors)),
    },
    conv.RULE: {
        ROW_TASKS: _Axis(_image_rows),
        CHANNEL_TASKS: _Axis(_panels, ("vectors", _n_vectors)),
    },
    winograd.RULE: {
        ROW_TASKS: _Axis(_square_blocks, ("tile_rows", _n_square_rows)),
        CHANNEL_TASKS: _Axis(_panels, ("vectors", _n_vectors)),
    },
    separable.RULE: {ROW_TASKS: _Axis(_bands, ("band", _n_output_rows))},
    window.RULE: {ROW_TASKS: _Axis(_image_rows), CHANNEL_TASKS: _Axis(_channel_blocks)},
    elementwise.MEAN_RULE: {ROW_TASKS: _Axis(_images), CHANNEL_TASKS: _Axis(_channel_blocks)},
    elementwise.ONCE_RULE: {ROW_TASKS: _Axis(_image_rows), CHANNEL_TASKS: _Axis(_channel_blocks)},
    matmul.RULE: {ROW_TASKS: _Axis(_form_rows), CHANNEL_TASKS: _Axis(_form_columns)},
    rowwise.RULE: {ROW_TASKS: _Axis(_form_lines)},
    generic.RULE: {ROW_TASKS: _Axis(_any_loop)},
}
