"""The tasks of a kernel, and the tiles that each of them computes.

A kernel of several threads starts its tasks once. Everything that is not a tensor of the operator
is declared inside of a task, so that no two of them share it, and no sum is divided among them.
With one task the code is what it would be without this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tvm import tirx

from profiler.kernels.tir import (
    Expression,
    RegisterFile,
    Statement,
    block,
    loop,
    over,
    over_channels,
    where,
)
from profiler.schedules.schedule import ROW_TASKS, Schedule
from profiler.schedules.tiles import Run, best_shared, even_runs, pieces

#: Takes the first number of a tile and its size.
_Body = Callable[[Expression, int], Statement]


@dataclass(frozen=True, slots=True)
class Part:
    """Of a number of tiles, those of one task: neighbours, as many as any other task's or one more.

    Attributes:
        index: The task.
        n_tasks: How many there are; with one the part is all tiles.
    """

    index: Expression = 0
    n_tasks: int = 1

    def among(self, *extents: int) -> tuple[Part, ...]:
        """A part for each of some loops inside of each other: one is shared, the others whole."""
        shared = best_shared(extents, self.n_tasks)
        return tuple(self if i == shared else WHOLE for i in range(len(extents)))

    def loop(self, extent: int, body: Callable[[Expression], Statement]) -> Statement:
        """Run a body for each number that is this part's, of those below `extent`."""
        if self.n_tasks == 1:
            return loop(extent, body)
        each, rest = divmod(extent, self.n_tasks)
        first = self.index * each if not rest else self._bound(extent, 0)
        n_own = each if not rest else self._bound(extent, 1) - first
        return loop(n_own, lambda i: body(first + i))

    def over(self, runs: Sequence[Run], body: _Body) -> Statement:
        """Run a body for each tile that is this part's, with its first number and its size."""
        if self.n_tasks == 1:
            return over(runs, body)
        return self._tiles([(run, body) for run in runs])

    def over_channels(
        self,
        n_channels: int,
        vectors: int,
        lanes: int,
        body: Callable[[Expression, int, int], Statement],
    ) -> Statement:
        """Run a body for each block of channels that is this part's; see `tir.over_channels`."""
        if self.n_tasks == 1:
            return over_channels(n_channels, vectors, lanes, body)
        n_whole, rest = divmod(n_channels, lanes)
        tiles: list[tuple[Run, _Body]] = [
            (
                Run(run.start * lanes, run.count, run.size * lanes),
                lambda c, size: body(c, size // lanes, lanes),
            )
            for run in (even_runs(n_whole, vectors) if n_whole else ())
        ]
        tiles += [
            (Run(n_whole * lanes + offset, 1, narrow), lambda c, size: body(c, 1, size))
            for offset, narrow in pieces(rest, lanes)
        ]
        return self._tiles(tiles)

    def _tiles(self, tiles: Sequence[tuple[Run, _Body]]) -> Statement:
        """Code for all runs of tiles; each runs as far as it is this part's."""
        ((run, body), *others) = tiles
        if not others and run.count % self.n_tasks == 0:
            return self.loop(run.count, lambda i: body(run.start + i * run.size, run.size))
        n_tiles = sum(run.count for run, _ in tiles)
        first, end = self._bound(n_tiles, 0), self._bound(n_tiles, 1)
        found, position = [], 0
        for run, body in tiles:
            found.append(_some(run, first - position, end - position, body))
            position += run.count
        return block(*found)

    def _bound(self, n_tiles: int, task: int) -> Expression:
        """The first tile of this task (0), or of the next one (1)."""
        return tirx.floordiv((self.index + task) * n_tiles, self.n_tasks)


def _some(run: Run, first: Expression, end: Expression, body: _Body) -> Statement:
    """Tiles of a run from `first`, which may lie before it, up to `end`, which may lie beyond."""
    if run.count == 1:
        return where(tirx.all(first <= 0, end > 0), body(run.start, run.size))
    start = tirx.max(first, 0)
    n_own = tirx.max(tirx.min(end, run.count) - start, 0)
    return loop(n_own, lambda i: body(run.start + (start + i) * run.size, run.size))


WHOLE: Final = Part()


@dataclass(frozen=True, slots=True)
class Task:
    """What one task computes.

    Attributes:
        rows: Its part of the rows of a product, of an image or of blocks of them.
        channels: Its part of the output's channels.
    """

    rows: Part
    channels: Part


#: The only task there is, where nothing is shared.
ALL: Final = Task(WHOLE, WHOLE)


def run(
    schedule: Schedule, registers: RegisterFile, body: Callable[[Task], Statement]
) -> Statement:
    """The body of a kernel, once for each task that its schedule asks for.

    Args:
        schedule: Says how many, and which tiles they share.
        registers: Of the kernel; each task has its own.
        body: Takes a task.
    """
    if schedule.n_tasks == 1:
        return block(registers.declare(), body(ALL))
    part = Part(tirx.Var("task", "int32"), schedule.n_tasks)
    shares_rows = ROW_TASKS in dict(schedule.parameters)
    task = Task(part, WHOLE) if shares_rows else Task(WHOLE, part)
    inside = block(registers.declare(), body(task))
    return tirx.For(part.index, 0, part.n_tasks, tirx.ForKind.PARALLEL, inside)
