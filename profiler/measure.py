"""The measuring policy: rounds in shuffled order, a canary in every block, nothing lost.

A visit is one fresh process on the device; its median is one sample. Repetitions inside a visit
share pages, caches and luck, so they do not count as independent: rounds do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from devices.device import Conditions, Failure, Runner, Timing, TimingPlan, Workload
from profiler.build import Progress, unheard
from profiler.canary import N_FIRST, N_REMEMBERED, CanaryWatch
from profiler.statistics import visit_median_us
from profiler.store import Purpose, RoundKey, Store, SubjectKind, Visit

#: Short visits for single operators: 2 ms of warm-up, seven blocks of at least 0.3 ms.
OPERATOR_PLAN = TimingPlan(
    warmup_ns=2_000_000,
    min_block_ns=300_000,
    n_blocks=7,
    with_timestamps=False,
    timeout_ms=20_000,
)
#: Longer visits for whole networks, with timestamps between calls after each block.
NETWORK_PLAN = TimingPlan(
    warmup_ns=20_000_000,
    min_block_ns=3_000_000,
    n_blocks=9,
    with_timestamps=True,
    timeout_ms=60_000,
)
#: The same without timestamps, where only the whole matters.
WHOLE_PLAN = replace(NETWORK_PLAN, with_timestamps=False)
#: A visit during which a hypervisor took more than this share of the time is marked.
STOLEN_TOLERANCE = 0.02
#: Visits between two canaries are made again this often at the most.
MAX_REPEATS = 2
_BLOCK_S = 0.3  # visits are written to the store, and the canary asked, this often
_TICKS_PER_S = 100  # unit of /proc/stat, USER_HZ


@dataclass(frozen=True, slots=True)
class Item:
    """Something to visit: an operator's kernel or a whole program.

    Attributes:
        subject_kind, subject, kernel, schedule, operators: As in `Visit`.
        workload: What the runner is asked to run.
        plan: How a visit is timed.
    """

    subject_kind: SubjectKind
    subject: str
    kernel: str
    schedule: str
    operators: tuple[str, ...]
    workload: Workload
    plan: TimingPlan

    def round_key(self, round_index: int) -> RoundKey:
        """What the store calls this item's visit of a round."""
        return RoundKey(self.subject, self.schedule, self.kernel, round_index)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Where visits are made and kept.

    Attributes:
        runner: The executable that holds the items' kernels and the canary's.
        canary: A kernel that never changes: when it does, the board did.
        store: Where every visit goes at once.
        device_id: The device.
        purpose: Why.
        n_rounds: How often each item is visited.
        rng: Shuffles each round.
    """

    runner: Runner
    canary: Item
    store: Store
    device_id: str
    purpose: Purpose
    n_rounds: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        if self.n_rounds < 1:
            raise ValueError(f"n_rounds must be >= 1, got {self.n_rounds}")


def measure(items: Sequence[Item], sweep: Sweep, progress: Progress = unheard) -> None:
    """Visit every item once a round, skipping what the store already has.

    Every visit goes to the store, failures and doubtful ones too; an item that failed is not
    visited again. Work is written to the store several times a second.

    Raises:
        RunnerLostError: the device is gone; what was measured is kept, run again to go on.
        StoreError: the store cannot be written to.
    """
    done = sweep.store.rounds_done(sweep.device_id, sweep.purpose)
    total = len(items) * sweep.n_rounds
    failed = set(sweep.store.failed_kernels(sweep.device_id))
    watch = watch_canary(sweep)
    finished = 0
    for round_index in range(sweep.n_rounds):
        waiting = [item for item in items if item.round_key(round_index) not in done]
        finished += len(items) - len(waiting)
        progress(finished, total)
        shuffled = [waiting[index] for index in sweep.rng.permutation(len(waiting))]
        queue = deque(item for item in shuffled if _name(item) not in failed)
        finished += len(shuffled) - len(queue)
        while queue:
            n_waiting = len(queue)
            failed |= _visit_block(queue, sweep, round_index, watch)
            finished += n_waiting - len(queue)
            progress(finished, total)


def _name(item: Item) -> tuple[str, str, str]:
    return (item.subject, item.schedule, item.kernel)


def _visit_block(
    queue: deque[Item], sweep: Sweep, round_index: int, watch: CanaryWatch
) -> set[tuple[str, str, str]]:
    """Visit items for a moment between two canaries; again while the canary moves.

    Returns:
        Names of the items that failed.
    """
    failed: set[tuple[str, str, str]] = set()
    moved = watch.has_moved(time_canary(sweep))
    visits: list[tuple[Item, Visit]] = []
    end = time.monotonic() + _BLOCK_S
    while queue and (not visits or time.monotonic() < end):
        item = queue.popleft()
        visits.append((item, time_once(item, sweep, round_index)))
    for n_repeats_left in reversed(range(MAX_REPEATS + 1)):
        moved = watch.has_moved(time_canary(sweep)) or moved
        _keep(visits, sweep, moved=moved)
        failed |= {_name(item) for item, visit in visits if isinstance(visit.outcome, Failure)}
        again = [item for item, _ in visits if _name(item) not in failed]
        if not moved or not again or n_repeats_left == 0:
            break
        moved = watch.has_moved(time_canary(sweep))
        visits = [(item, time_once(item, sweep, round_index)) for item in again]
    return failed


def _keep(visits: Sequence[tuple[Item, Visit]], sweep: Sweep, *, moved: bool) -> None:
    extra = ("canary_moved",) if moved else ()
    sweep.store.append([replace(visit, flags=visit.flags + extra) for _, visit in visits])


def time_once(item: Item, sweep: Sweep, round_index: int) -> Visit:
    """Visit an item once, without keeping the visit."""
    outcome = sweep.runner.time(item.workload, item.plan)
    return Visit(
        device_id=sweep.device_id,
        subject_kind=item.subject_kind,
        subject=item.subject,
        kernel=item.kernel,
        schedule=item.schedule,
        purpose=sweep.purpose,
        round_index=round_index,
        plan=item.plan,
        outcome=outcome,
        flags=quality_flags(outcome) if isinstance(outcome, Timing) else (),
        operators=item.operators,
    )


def time_canary(sweep: Sweep) -> float | None:
    """Time the canary and keep the visit; microseconds, or None when it failed."""
    visit = replace(time_once(sweep.canary, sweep, 0), purpose="canary")
    sweep.store.append([visit])
    if isinstance(visit.outcome, Failure):
        return None
    return visit_median_us(visit.outcome.block_ns, visit.outcome.n_repeats)


def watch_canary(sweep: Sweep) -> CanaryWatch:
    """Start from what the store remembers of the device; a new device is asked a few times."""
    remembered = sweep.store.latest_us(sweep.device_id, "canary", N_REMEMBERED)
    watch = CanaryWatch(remembered)
    for _ in range(N_FIRST - len(remembered)):
        watch.has_moved(time_canary(sweep))
    return watch


def quality_flags(timing: Timing) -> tuple[str, ...]:
    """Doubts that a timing itself raises.

    `stolen`: a hypervisor took time; `preempted`: another process ran on the core; `unsteady`:
    the blocks' quartiles lie more than 10 % of the median apart; `clock_changed`: the core's
    frequency differs by more than 5 %.
    """
    flags = []
    lasted_s = sum(timing.block_ns) / 1e9
    stolen_s = _difference(timing.before.steal_ticks, timing.after.steal_ticks) / _TICKS_PER_S
    if stolen_s > max(STOLEN_TOLERANCE * lasted_s, 1 / _TICKS_PER_S):
        flags.append("stolen")
    if timing.n_preemptions > len(timing.block_ns):
        flags.append("preempted")
    low, middle, high = np.percentile(timing.block_ns, [25, 50, 75])
    if high - low > 0.1 * middle:
        flags.append("unsteady")
    if _clock_changed(timing.before, timing.after):
        flags.append("clock_changed")
    return tuple(flags)


def _difference(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before


def _clock_changed(before: Conditions, after: Conditions) -> bool:
    if before.clock_mhz is None or after.clock_mhz is None:
        return False
    return abs(after.clock_mhz - before.clock_mhz) > 0.05 * before.clock_mhz
