"""How much of a board's session kernels ran."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.blocks import MIN_BLOCK_TICKS, scale_repeats
from devices.device import Failure, Timing, TimingPlan


@dataclass(frozen=True, slots=True)
class SessionUse:
    """What the time of one or more sessions went into, in seconds.

    Attributes:
        kernel_s: Kernels ran, the canary's among them.
        cooling_s: Nothing ran because the board was too hot.
        lasted_s: From the runner's start to its end.
    """

    kernel_s: float
    cooling_s: float
    lasted_s: float

    @property
    def utilization(self) -> float | None:
        """Share of the time, cooling aside, in which kernels ran; None of no time."""
        lasted_s = self.lasted_s - self.cooling_s
        return self.kernel_s / lasted_s if lasted_s > 0 else None


@dataclass(slots=True)
class SessionMeter:
    """Adds up what the time of one session goes into.

    Attributes:
        clock: Monotonic seconds.
        kernel_s: Seconds in which kernels ran, so far.
        cooling_s: Seconds in which the board was left alone to cool down, so far.
    """

    clock: Callable[[], float] = time.monotonic
    kernel_s: float = 0.0
    cooling_s: float = 0.0
    _started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._started_s = self.clock()

    def add(self, outcome: Timing | Failure, plan: TimingPlan) -> None:
        """Count a visit; a failure's time is not known and not counted."""
        if isinstance(outcome, Timing):
            self.kernel_s += kernel_ns(outcome, plan) / 1e9

    def use(self) -> SessionUse:
        """What the time went into until now."""
        return SessionUse(self.kernel_s, self.cooling_s, self.clock() - self._started_s)


def kernel_ns(timing: Timing, plan: TimingPlan) -> float:
    """How long a visit's kernels ran, in nanoseconds.

    Timed blocks and timestamped repetitions were measured. The first repetition, which shows that
    the kernels run at all, the warm-up, the calibration and the repetition before the blocks follow
    from the plan and from how long a repetition takes; blocks that were timed again are not known
    and not counted.
    """
    repetition_ns = min(timing.block_ns) / timing.n_repeats
    stamped_ns = 0 if timing.call_ns is None else int(timing.call_ns.sum())
    n_single = 2 + max(math.ceil(plan.warmup_ns / repetition_ns), 1)
    goal_ns = max(plan.min_block_ns, MIN_BLOCK_TICKS * timing.tick_ns)
    calibration_ns = _calibration_ns(repetition_ns, goal_ns)
    return sum(timing.block_ns) + stamped_ns + calibration_ns + n_single * repetition_ns


def _calibration_ns(repetition_ns: float, goal_ns: float) -> float:
    """What `devices.blocks` and the C runner take to find how many repetitions fill a block."""
    n_repeats, total_ns = 1, 0.0
    while True:
        step_ns = n_repeats * repetition_ns
        total_ns += step_ns
        if step_ns >= goal_ns:
            return total_ns
        n_repeats = scale_repeats(n_repeats, step_ns, goal_ns)
