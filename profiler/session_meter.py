"""How much of a board's session kernels ran."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.device import Failure, Timing, TimingPlan
from profiler.board_records import SessionUse


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
    """How long a visit's kernels ran at the least, in nanoseconds.

    Timed blocks, timestamped repetitions, the warm-up, and the last step of the calibration, which
    lasts as long as a block; earlier steps and repeated blocks are left out, as nobody counted
    them.
    """
    repetition_ns = min(timing.block_ns) / timing.n_repeats
    stamped_ns = 0 if timing.call_ns is None else int(timing.call_ns.sum())
    warmup_ns = max(plan.warmup_ns, 2 * repetition_ns)
    calibration_ns = max(plan.min_block_ns, repetition_ns)
    return float(sum(timing.block_ns) + stamped_ns + warmup_ns + calibration_ns)
