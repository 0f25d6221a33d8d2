"""The latency of one whole network, proved by spaced sessions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from devices.device import Failure, Timing, TimingPlan
from devices.errors import RunnerLostError
from profiler.build import Progress, unheard
from profiler.canary import CanaryWatch
from profiler.measure import Item, Sweep, SweepLostError, time_canary, time_once, watch_canary
from profiler.pipeline import LOST
from profiler.statistics import (
    UNUSABLE_FLAGS,
    order_statistic_interval,
    upper_bound_of_median,
    visit_median_us,
)
from profiler.store import Store, Visit
from profiler.sweep import cool_down, note_visit

#: Eleven sessions leave room for two disturbed ones: the upper 95 % bound of their median is the
#: third largest, the 95 % interval reaches from the second to the tenth.
N_SESSIONS = 11
#: On a restless device there are more, up to three times as many, until the interval of the median
#: can be expected to reach this far to either side.
WANTED_HALF_WIDTH = 0.03
_MOST_TIMES = 3
SPACING_S = 0.25
CONFIDENCE = 0.95
#: A session whose canary moved is made again; no more than so many in all.
MAX_EXTRA_SESSIONS = 11
SESSION_PLAN = TimingPlan(
    warmup_ns=40_000_000,
    min_block_ns=3_000_000,
    n_blocks=25,
    with_timestamps=False,
    timeout_ms=60_000,
)
_LEAST_BLOCKS = 5


class NetworkFailedError(RuntimeError):
    """The network did not run to its end on the device: the message says how it failed."""


@dataclass(frozen=True, slots=True)
class NetworkMeasurement:
    """A whole network's latency on a device.

    Attributes:
        latency_us: Median over the sessions' medians.
        low_us, high_us: Distribution-free interval of that median.
        confidence: What the interval reaches, at least 0.95 with six sessions or more.
        upper_us: One-sided upper 95 % bound of the median: a limit is met when it is at or below.
        session_us: The median of each session.
        flags: Doubts about any session that was kept, each once.
    """

    latency_us: float
    low_us: float
    high_us: float
    confidence: float
    upper_us: float
    session_us: tuple[float, ...]
    flags: tuple[str, ...]

    def meets(self, limit_us: float) -> bool:
        """Whether the upper bound of the median is at or below the limit."""
        return self.upper_us <= limit_us


def measure_network(
    item: Item,
    sweep: Sweep,
    progress: Progress = unheard,
    sleep: Callable[[float], None] = time.sleep,
) -> NetworkMeasurement:
    """Time a program in spaced sessions, each a fresh process with the canary around it.

    Args:
        item: The program; its plan is replaced by `SESSION_PLAN`, with fewer blocks after the
            first session where they would last longer than a second.
        sweep: Where; `n_rounds` is the number of sessions on a steady device.
        progress: Called after each session.
        sleep: Waits between sessions, in seconds.

    Raises:
        NetworkFailedError: a kernel crashed, hung or reported an error, or the network has taken
            the board down twice.
        SweepLostError: the runner is gone.
    """
    _refuse_quarantined(item, sweep)
    item = replace(item, plan=SESSION_PLAN)
    watch = watch_canary(sweep)
    # Known before the first session: a number that followed from the sessions would bend bounds.
    n_sessions = choose_n_sessions(watch.relative_deviation, sweep.n_rounds)
    visits: list[Visit] = []
    for index in range(n_sessions + MAX_EXTRA_SESSIONS):
        visit, moved = _session(item, sweep, index, watch)
        sweep.store.append([visit])
        if isinstance(visit.outcome, Failure):
            raise NetworkFailedError(
                f"{item.subject} failed on the device: "
                f"{visit.outcome.reason}: {visit.outcome.detail}"
            )
        visits.append(visit)
        item = replace(item, plan=_within_a_second(visit.outcome))
        n_good = sum(UNUSABLE_FLAGS.isdisjoint(v.flags) for v in visits)
        progress(min(n_good, n_sessions), n_sessions)
        if n_good >= n_sessions:
            break
        if sweep.baseline.asks_to_wait(visit.outcome):
            cool_down(sweep)
        # More sessions stand closer together: what disturbs them lasts as long.
        sleep(SPACING_S * sweep.n_rounds / n_sessions * (2 if moved else 1))
    return _summarize(visits, n_sessions)


def recall_network(item: Item, store: Store, device_id: str) -> NetworkMeasurement | None:
    """What the last sessions of a program said, or None while it has no full set of them.

    Args:
        item: The program, as in `measure_network`; the same kernels in the same arena.
        store: Where `measure_network` kept the sessions of purpose "measure".
        device_id: Of the device that made them.
    """
    run: list[Visit] = []
    for visit in store.visits(device_id, item.subject_kind, item.subject, {"measure"}):
        if visit.kernel != item.kernel or visit.plan.with_timestamps:
            continue
        if visit.round_index == 0:
            run = []
        run.append(visit)
    usable = [visit for visit in run if UNUSABLE_FLAGS.isdisjoint(visit.flags)]
    is_whole = len(usable) >= N_SESSIONS or len(run) >= N_SESSIONS + MAX_EXTRA_SESSIONS
    if not is_whole or any(isinstance(visit.outcome, Failure) for visit in run):
        return None
    return _summarize(run, N_SESSIONS)


def choose_n_sessions(relative_deviation: float, least: int) -> int:
    """Sessions for an interval of `WANTED_HALF_WIDTH`, from how far the canary's visits spread.

    The median of n normal samples deviates by sqrt(pi / 2 n) of their standard deviation (Kenney &
    Keeping, Mathematics of Statistics, part 2, section 7.4).
    """
    wanted = math.pi / 2 * (1.96 * relative_deviation / WANTED_HALF_WIDTH) ** 2
    return min(max(least, math.ceil(wanted)), _MOST_TIMES * least)


def _refuse_quarantined(item: Item, sweep: Sweep) -> None:
    if item.name in sweep.store.boards.quarantined_kernels(sweep.device_id):
        raise NetworkFailedError(
            f"{item.subject} is in quarantine: the board went down twice while it ran, and it is "
            f"not run on this device again"
        )


def _within_a_second(timing: Timing) -> TimingPlan:
    """The plan with fewer blocks where a repetition is long: a second or five blocks."""
    latency_us = visit_median_us(timing.block_ns, timing.n_repeats)
    n_blocks = max(_LEAST_BLOCKS, int(1e6 / latency_us))
    return replace(SESSION_PLAN, n_blocks=min(n_blocks, SESSION_PLAN.n_blocks))


def _session(item: Item, sweep: Sweep, index: int, watch: CanaryWatch) -> tuple[Visit, bool]:
    before = watch.has_moved(time_canary(sweep))
    try:
        visit = time_once(item, sweep, index)
    except RunnerLostError as error:
        raise SweepLostError(str(error), (note_visit(item, sweep, index, LOST),)) from error
    moved = watch.has_moved(time_canary(sweep)) or before
    return (replace(visit, flags=(*visit.flags, "canary_moved")) if moved else visit), moved


def _summarize(visits: list[Visit], n_sessions: int) -> NetworkMeasurement:
    """Sessions without a disturbance where there are enough of them, else all."""
    good = [visit for visit in visits if UNUSABLE_FLAGS.isdisjoint(visit.flags)]
    kept = good if len(good) >= n_sessions else visits
    session_us = []
    for visit in kept:
        assert not isinstance(visit.outcome, Failure)
        session_us.append(visit_median_us(visit.outcome.block_ns, visit.outcome.n_repeats))
    interval = order_statistic_interval(session_us, CONFIDENCE)
    return NetworkMeasurement(
        latency_us=median(session_us),
        low_us=interval.low,
        high_us=interval.high,
        confidence=interval.confidence,
        upper_us=upper_bound_of_median(session_us, CONFIDENCE).value,
        session_us=tuple(session_us),
        flags=tuple(sorted({flag for visit in kept for flag in visit.flags})),
    )
