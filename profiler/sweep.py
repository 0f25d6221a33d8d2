"""What is visited, where visits are made and kept, and one visit by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from devices.device import Failure, Runner, Timing, TimingPlan, Workload
from profiler.baseline import DEADLINE_S, PAUSE_S, Baseline
from profiler.canary import N_FIRST, N_REMEMBERED, CanaryWatch
from profiler.kernel_histories import KernelName
from profiler.quality import Allowance, quality_flags
from profiler.session_meter import SessionMeter
from profiler.statistics import visit_median_us
from profiler.store import Purpose, RoundKey, Session, Store, SubjectKind, Visit
from profiler.store_schema import NO_SESSION

#: Short visits for single operators: 2 ms of warm-up, blocks of at least 0.3 ms. Seven blocks would
#: do for the median; with thirteen a visit runs for 6.4 ms beside 0.9 ms of starting a process,
#: touching its memory and reading the board's state (seen on a 2-core EPYC virtual machine).
OPERATOR_PLAN = TimingPlan(
    warmup_ns=2_000_000,
    min_block_ns=300_000,
    n_blocks=13,
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


def unnoticed(_: str) -> None:
    """Tell nobody."""


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

    @property
    def name(self) -> KernelName:
        """What the store knows it by."""
        return (self.subject, self.schedule, self.kernel)

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
        session: Under which lease visits are made.
        n_running: Processes and threads of ours that may run on the board at once.
        suspects: What is visited with nothing else under way, because the board or the runner
            went down with it in flight.
        notice: Told, in words, what a person wants to know meanwhile.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
        meter: What the session's time goes into.
        baseline: What the board was like at the start.
    """

    runner: Runner
    canary: Item
    store: Store
    device_id: str
    purpose: Purpose
    n_rounds: int
    rng: np.random.Generator
    session: Session = NO_SESSION
    n_running: int = 2
    suspects: frozenset[KernelName] = frozenset()
    notice: Callable[[str], None] = unnoticed
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    meter: SessionMeter = field(default_factory=SessionMeter)
    baseline: Baseline = field(default_factory=Baseline)

    def __post_init__(self) -> None:
        if self.n_rounds < 1:
            raise ValueError(f"n_rounds must be >= 1, got {self.n_rounds}")


def time_once(item: Item, sweep: Sweep, round_index: int) -> Visit:
    """Visit an item once, without keeping the visit."""
    return note_visit(item, sweep, round_index, sweep.runner.time(item.workload, item.plan))


def note_visit(item: Item, sweep: Sweep, round_index: int, outcome: Timing | Failure) -> Visit:
    """A visit's outcome with all that belongs to it; its time is counted."""
    sweep.meter.add(outcome, item.plan)
    if isinstance(outcome, Timing):
        sweep.baseline.note(outcome)
    allowance = Allowance(sweep.n_running, sweep.baseline.limit_c, sweep.baseline.governor)
    return Visit(
        device_id=sweep.device_id,
        subject_kind=item.subject_kind,
        subject=item.subject,
        kernel=item.kernel,
        schedule=item.schedule,
        purpose="canary" if item is sweep.canary else sweep.purpose,
        round_index=round_index,
        plan=item.plan,
        outcome=outcome,
        flags=quality_flags(outcome, allowance) if isinstance(outcome, Timing) else (),
        operators=item.operators,
        session=sweep.session,
    )


def time_canary(sweep: Sweep) -> float | None:
    """Time the canary and keep the visit; microseconds, or None when it failed."""
    visit = time_once(sweep.canary, sweep, 0)
    sweep.store.append([visit])
    return latency_us(visit)


def latency_us(visit: Visit) -> float | None:
    """A visit's median in microseconds; None when it failed."""
    if isinstance(visit.outcome, Failure):
        return None
    return visit_median_us(visit.outcome.block_ns, visit.outcome.n_repeats)


def recall_canary(sweep: Sweep) -> CanaryWatch:
    """What the store remembers of the device's canary; nothing of a new device."""
    return CanaryWatch(sweep.store.latest_us(sweep.device_id, "canary", N_REMEMBERED))


def watch_canary(sweep: Sweep) -> CanaryWatch:
    """Start from what the store remembers of the device; a new device is asked a few times."""
    watch = recall_canary(sweep)
    for _ in range(N_FIRST - watch.n_known):
        watch.has_moved(time_canary(sweep))
    return watch


def cool_down(sweep: Sweep) -> None:
    """Leave the board alone until it is cool and fast again, `DEADLINE_S` at the longest.

    A canary asks it now and then, and the sweep's `notice` is told what it says. After the deadline
    the baseline lets the sweep go on.
    """
    started_s = sweep.clock()
    kernel_s = sweep.meter.kernel_s
    while True:
        visit = time_once(sweep.canary, sweep, 0)
        sweep.store.append([visit])
        timing = visit.outcome
        if isinstance(timing, Failure) or not sweep.baseline.is_too_hot(timing):
            break
        sweep.notice(sweep.baseline.describe(timing))
        if sweep.clock() - started_s >= DEADLINE_S:
            sweep.baseline.has_given_up = True
            sweep.notice(f"still hot after {DEADLINE_S:.0f} s: what follows is flagged")
            break
        sweep.sleep(PAUSE_S)
    sweep.meter.cooling_s += sweep.clock() - started_s - (sweep.meter.kernel_s - kernel_s)
