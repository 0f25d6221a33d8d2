"""Doubts about a timing, from what the board told of itself before and after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from devices.device import Conditions, Timing

#: A visit during which a hypervisor took more than this share of the time is marked.
STOLEN_TOLERANCE: Final = 0.02
#: A clock that moved by more than this share during a visit marks it.
CLOCK_TOLERANCE: Final = 0.05
#: Visits with one of these are made again: what disturbed them may be over by then.
REPEATED_FLAGS: Final = frozenset(
    {"canary_moved", "throttled", "clock_changed", "governor_changed", "preempted", "busy"}
)
_TICKS_PER_S: Final = 100  # unit of /proc/stat, USER_HZ
# Bits 0 to 3: under-voltage, clock capped, throttled, soft temperature limit, each at this moment;
# what happened earlier stands from bit 16 on. Raspberry Pi documentation, `vcgencmd get_throttled`.
_THROTTLED_NOW: Final = 0xF


@dataclass(frozen=True, slots=True)
class Allowance:
    """What of a board's state is our own doing, or no reason for doubt.

    Attributes:
        n_running: Processes and threads that may run beside nobody else's: those of the kernel,
            and the one that talks to the host.
        limit_c: Temperature from which a board counts as hot; None where it does not tell.
        governor: The clock governor that is expected; None where the board does not tell.
    """

    n_running: int = 2
    limit_c: float | None = None
    governor: str | None = None


def quality_flags(timing: Timing, allowance: Allowance | None = None) -> tuple[str, ...]:
    """Doubts that a timing itself raises.

    `stolen`: a hypervisor took time; `preempted`: another process ran on the core; `unsteady`:
    the blocks' quartiles lie more than 10 % of the median apart; `clock_changed`: the core's
    frequency differs by more than 5 %; `governor_changed`: another one chose the clock;
    `throttled`: the board slowed itself down; `hot`: it was
    above its limit when the blocks began; `busy`: others ran before and after; `loaded`: others
    ran for the last minute.
    """
    return tuple(_doubts(timing, Allowance() if allowance is None else allowance))


def _doubts(timing: Timing, allowance: Allowance) -> Iterator[str]:
    before, after = timing.before, timing.after
    lasted_s = sum(timing.block_ns) / 1e9
    stolen_s = _difference(before.steal_ticks, after.steal_ticks) / _TICKS_PER_S
    if stolen_s > max(STOLEN_TOLERANCE * lasted_s, 1 / _TICKS_PER_S):
        yield "stolen"
    if timing.n_preemptions > len(timing.block_ns):
        yield "preempted"
    low, middle, high = np.percentile(timing.block_ns, [25, 50, 75])
    if high - low > 0.1 * middle:
        yield "unsteady"
    if _clock_changed(before, after):
        yield "clock_changed"
    if len({before.governor, after.governor, allowance.governor} - {None}) > 1:
        yield "governor_changed"
    if is_throttled(timing):
        yield "throttled"
    if _is_above(before.temperature_c, allowance.limit_c):
        yield "hot"
    if min(_others(before, allowance), _others(after, allowance)) > 0:
        yield "busy"
    # The load average of a board that only measures is one for each of our own.
    if _is_above(before.load_1min, allowance.n_running + 1.0):
        yield "loaded"


def is_throttled(timing: Timing) -> bool:
    """Whether the board slowed itself down while it was timed, or does so now."""
    before, after = timing.before, timing.after
    flags = (before.throttle_flags or 0) | (after.throttle_flags or 0)
    return bool(flags & _THROTTLED_NOW) or (
        _difference(before.throttle_events, after.throttle_events) > 0
    )


def _difference(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before


def _clock_changed(before: Conditions, after: Conditions) -> bool:
    if before.clock_mhz is None or after.clock_mhz is None:
        return False
    return abs(after.clock_mhz - before.clock_mhz) > CLOCK_TOLERANCE * before.clock_mhz


def _is_above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _others(conditions: Conditions, allowance: Allowance) -> int:
    n_running = conditions.n_running
    return 0 if n_running is None else max(n_running - allowance.n_running, 0)
