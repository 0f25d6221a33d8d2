"""Blocks of repetitions, timed as the C runner times them: warm-up, calibration, all blocks."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from devices.device import Conditions, TimingPlan

#: Nanoseconds of a clock that never goes back.
NanosecondClock = Callable[[], int]

MIN_BLOCK_TICKS: Final = 1000
_MAX_REPEATS: Final = 1 << 32
_MAX_RESTARTS: Final = 5
_N_TICK_TRIES: Final = 2000


@dataclass(frozen=True, slots=True)
class Blocks:
    """Raw samples; see `devices.device.Timing`."""

    n_repeats: int
    block_ns: tuple[int, ...]
    n_preemptions: int
    before: Conditions
    after: Conditions


def count_preemptions() -> int:
    """How often this process was switched out against its will."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """What timing needs of a board.

    Attributes:
        now_ns: The clock.
        tick_ns: Its smallest step.
        preemptions: How often the process was switched out so far.
        conditions: The board's state now.
    """

    now_ns: NanosecondClock
    tick_ns: int
    preemptions: Callable[[], int]
    conditions: Callable[[], Conditions]


def measure_tick_ns(now_ns: NanosecondClock = time.perf_counter_ns) -> int:
    """Smallest step seen between two readings of a clock that differ."""
    smallest = 1 << 62
    for _ in range(_N_TICK_TRIES):
        start = now = now_ns()
        while now == start:
            now = now_ns()
        smallest = min(smallest, now - start)
    return smallest


def time_blocks(run: Callable[[], object], plan: TimingPlan, watch: Stopwatch) -> Blocks:
    """Time blocks of repetitions.

    Every block lasts at least as long as the plan says and 1,000 ticks: when one is shorter,
    because the board was slower during calibration, all are timed again with more repetitions.
    """
    goal_ns = max(plan.min_block_ns, MIN_BLOCK_TICKS * watch.tick_ns)
    _warm_up(run, plan.warmup_ns, watch.now_ns)
    n_repeats = _calibrate(run, goal_ns, watch.now_ns)
    before = watch.conditions()
    for _ in range(_MAX_RESTARTS + 1):
        run()  # reading the conditions, or the round before, has cooled the caches
        n_before = watch.preemptions()
        block_ns = tuple(_time(run, n_repeats, watch.now_ns) for _ in range(plan.n_blocks))
        n_preemptions = watch.preemptions() - n_before
        if min(block_ns) >= goal_ns or n_repeats >= _MAX_REPEATS:
            break
        n_repeats = scale_repeats(n_repeats, min(block_ns), goal_ns)
    return Blocks(n_repeats, block_ns, n_preemptions, before, watch.conditions())


def _time(run: Callable[[], object], n_repeats: int, now_ns: NanosecondClock) -> int:
    start = now_ns()
    for _ in range(n_repeats):
        run()
    return now_ns() - start


def _warm_up(run: Callable[[], object], warmup_ns: int, now_ns: NanosecondClock) -> None:
    start = now_ns()
    run()
    run()
    while now_ns() - start < warmup_ns:
        run()


def _calibrate(run: Callable[[], object], goal_ns: int, now_ns: NanosecondClock) -> int:
    """Repetitions that fill the goal."""
    n_repeats = 1
    while n_repeats < _MAX_REPEATS:
        elapsed_ns = _time(run, n_repeats, now_ns)
        if elapsed_ns >= goal_ns:
            break
        n_repeats = scale_repeats(n_repeats, elapsed_ns, goal_ns)
    return n_repeats


def scale_repeats(n_repeats: int, elapsed_ns: float, goal_ns: float) -> int:
    """Repetitions that would have filled the goal at the pace seen, and 5 % more."""
    # A short block tells little: approach in steps.
    factor = min(goal_ns / elapsed_ns * 1.05, 16.0) if elapsed_ns > 0 else 16.0
    return min(int(n_repeats * factor) + 1, _MAX_REPEATS)
