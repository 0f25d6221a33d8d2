"""Measure the same against the same, to learn how small a change a device can show."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final

import numpy as np

from devices.device import Failure
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from profiler.canary import TOLERANCE
from profiler.detection import MIN_PAIRS, Detection, find_detection
from profiler.measure import WHOLE_PLAN, Item, Sweep, time_canary, time_once, watch_canary
from profiler.network import Call, Network
from profiler.operator import Operator
from profiler.recovery import Held, hold_session, refuse_quarantined
from profiler.runtime import Model
from profiler.sessions import NetworkFailedError
from profiler.statistics import visit_median_us
from profiler.store import Visit

#: More pairs between unusual canaries than this share, and the board was not the same throughout.
MOST_MOVED: Final = 0.1

_CONV: Final = Operator(
    "conv2d", (1, 28, 28, 32), 64, (3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "relu")
)
_DEPTHWISE: Final = Operator(
    "depthwise_conv2d", (1, 28, 28, 64), 64, (3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "relu")
)
_POINTWISE: Final = Operator("conv2d", (1, 28, 28, 64), 96, epilogue=("bias",))
_POOL: Final = Operator("global_avg_pool2d", (1, 28, 28, 96), 96)
_DENSE: Final = Operator("dense", (1, 1, 1, 96), 1000, epilogue=("bias",))
#: One of each kind that mobile networks are made of.
REFERENCE: Final = Network(
    name="calibration:1",
    inputs=(("input", _CONV.input_shape),),
    calls=(
        Call(_CONV, ("input",), "conv", ("conv.weight", "conv.bias")),
        Call(_DEPTHWISE, ("conv",), "depthwise", ("depthwise.weight", "depthwise.bias")),
        Call(_POINTWISE, ("depthwise",), "pointwise", ("pointwise.weight", "pointwise.bias")),
        Call(_POOL, ("pointwise",), "pool"),
        Call(_DENSE, ("pool",), "dense", ("dense.weight", "dense.bias")),
    ),
    outputs=("dense",),
)


class TooFewPairsError(RuntimeError):
    """It was stopped before there was enough to say anything: give it more time."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a device can show.

    Attributes:
        detection: The smallest change.
        seconds: How long the pairs took.
        has_moved: Whether the canary did: the board was not the same throughout.
        moved_share: Share of the pairs beside which a canary was unusual.
        drift_percent: By how much the canary was slower in the last third than in the first.
        is_interrupted: Whether a person stopped it early.
    """

    detection: Detection
    seconds: float
    has_moved: bool
    moved_share: float
    drift_percent: float
    is_interrupted: bool

    @property
    def seconds_per_session(self) -> float:
        """What one session took, with its share of the canaries."""
        return self.seconds / (2 * self.detection.n_pairs)


@dataclass(slots=True)
class _Series:
    """What was measured so far, in the time that there is."""

    seconds: float
    clock: Callable[[], float]
    progress: StageProgress
    started: float | None = None
    log_ratios: list[float] = field(default_factory=list)
    moved: list[bool] = field(default_factory=list)
    canary_us: list[float] = field(default_factory=list)

    @property
    def lasted_s(self) -> float:
        """Seconds since the board was there to be measured on."""
        return 0.0 if self.started is None else self.clock() - self.started

    def wants_more(self) -> bool:
        """Whether another pair is to be measured; tells how far it is."""
        self.started = self.clock() if self.started is None else self.started
        total = round(self.seconds)
        self.progress("calibrate", min(round(self.lasted_s), total), total)
        return self.lasted_s < self.seconds or len(self.log_ratios) < MIN_PAIRS


def calibrate(
    workbench: Workbench,
    seconds: float,
    rng: np.random.Generator,
    progress: StageProgress = quiet,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Measure a frozen network against itself in interleaved pairs of sessions.

    Every visit goes to the store. Ctrl-C ends it early and keeps what was measured; when the board
    is lost meanwhile, it goes on once the board is back.

    Args:
        workbench: The device.
        seconds: How long; at least `MIN_PAIRS` pairs are measured, however long they take.
        rng: Puts each pair in an order, and draws resamples.
        progress: Called after each pair, with seconds.
        clock: In seconds.

    Raises:
        NetworkFailedError: a kernel crashed, hung or reported an error.
        TooFewPairsError: it was stopped before there were `MIN_PAIRS` pairs.
        DeviceError: the device is gone; see `profiler.recovery.hold_session`.
    """
    refuse_quarantined(workbench.bench)
    prepared = workbench.runtime.prepare([Model(REFERENCE)], progress)
    item, linked, bench = prepared.bound[0].item(WHOLE_PLAN), prepared.link(), workbench.bench
    series = _Series(seconds, clock, progress)
    is_interrupted = False

    def work(held: Held) -> None:
        _measure_pairs(item, held.sweep(linked.canary, "calibrate", 1, rng), series)

    try:
        hold_session(bench, linked.executable, work, lambda text: progress(text, 0, 0))
    except KeyboardInterrupt:
        is_interrupted = True
    lasted_s = series.lasted_s
    if len(series.log_ratios) < MIN_PAIRS:
        raise TooFewPairsError(
            f"{workbench.device.name}: {MIN_PAIRS} pairs of sessions say something, "
            f"{len(series.log_ratios)} were measured; give it more time"
        )
    drift = _drift(series.canary_us)
    moved_share = sum(series.moved) / len(series.moved)
    return Calibration(
        detection=find_detection(series.log_ratios, rng),
        seconds=lasted_s,
        has_moved=moved_share > MOST_MOVED or abs(drift) > math.log1p(TOLERANCE),
        moved_share=moved_share,
        drift_percent=100 * math.expm1(drift),
        is_interrupted=is_interrupted,
    )


def _measure_pairs(item: Item, sweep: Sweep, series: _Series) -> None:
    """Measure pairs, each between two canaries, while more are wanted."""
    wants_more = series.wants_more()
    watch = watch_canary(sweep)
    moved = watch.has_moved(time_canary(sweep))
    while wants_more:
        log_ratio = _measure_pair(item, sweep, len(series.log_ratios))
        canary_us = time_canary(sweep)
        has_moved = watch.has_moved(canary_us)
        series.log_ratios.append(log_ratio)
        series.moved.append(moved or has_moved)
        if canary_us is not None:
            series.canary_us.append(canary_us)
        moved = has_moved
        wants_more = series.wants_more()


def _measure_pair(item: Item, sweep: Sweep, index: int) -> float:
    """Logarithm of the second series' latency over the first's."""
    latency_us = {}
    for name in sweep.rng.permutation(["a", "b"]):
        visit = time_once(replace(item, subject=f"{item.subject}:{name}"), sweep, index)
        sweep.store.append([visit])
        latency_us[name] = _median_us(visit)
    return math.log(latency_us["b"] / latency_us["a"])


def _median_us(visit: Visit) -> float:
    if isinstance(visit.outcome, Failure):
        raise NetworkFailedError(
            f"{visit.subject} failed on the device: {visit.outcome.reason}: {visit.outcome.detail}"
        )
    return visit_median_us(visit.outcome.block_ns, visit.outcome.n_repeats)


def _drift(canary_us: list[float]) -> float:
    """Logarithm of the canary's latency in the last third over that in the first."""
    n = max(1, len(canary_us) // 3)
    if not canary_us:
        return 0.0
    return math.log(median(canary_us[-n:]) / median(canary_us[:n]))
