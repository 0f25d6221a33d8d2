"""Is a board fit to be measured on now? What speaks against it, and the command that helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.findings import (
    Finding,
    check_clock_limits,
    check_kinds,
    check_temperature,
    check_throttling,
    check_turbo,
)
from devices.processes import BusyProcess, CpuTimes, busy_processes, read_cpu_times
from devices.system_files import read_text
from devices.throttling import read_throttle_events

_INTERVAL_S: Final = 1.0
_CPU: Final = "sys/devices/system/cpu"
#: A core's share that others may take before samples are visibly disturbed, and before they are
#: worthless.
_BUSY_SHARE: Final = 0.05
_UNFIT_SHARE: Final = 0.5
_STEAL_SHARE: Final = 0.01
#: Blocks last at least 1,000 ticks: above this a block is too long for short kernels.
_COARSE_TICK_NS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Health:
    """All findings of one check; no findings is the best."""

    findings: tuple[Finding, ...]

    @property
    def is_fit(self) -> bool:
        """Whether measuring makes sense now."""
        return all(finding.severity != "unfit" for finding in self.findings)


def check(
    cores: Sequence[int],
    tick_ns: int | None = None,
    root: Path = Path("/"),
    sleep: Callable[[float], None] = time.sleep,
    refresh: Callable[[], None] | None = None,
) -> Health:
    """Look at the board for one second.

    Args:
        cores: The cores that run what is measured.
        tick_ns: Smallest step of the clock, from the runner's description, where it is known.
        root: Where `proc` and `sys` are found.
        sleep: Waits so many seconds.
        refresh: Brings the files below `root` up to date, where they are a board's; called before
            and after the second.

    Raises:
        DeviceUnreachableError: the board did not answer to `refresh`.
    """
    _look(refresh)
    before, throttled = read_cpu_times(root), _events(root)
    sleep(_INTERVAL_S)
    _look(refresh)
    after = read_cpu_times(root)
    interval_s = _interval_s(before, after)
    busy = busy_processes(before, after, interval_s)
    return Health(
        (
            *check_throttling(root, _events(root) - throttled),
            *(finding for core in cores for finding in check_clock_limits(root, core)),
            *check_turbo(root),
            *check_kinds(root, cores),
            *_check_steal((after.steal_s - before.steal_s) / interval_s),
            *_check_others(busy, after.n_cores, len(cores)),
            *_check_users(root),
            *check_temperature(root),
            *_check_tick(tick_ns),
        )
    )


def _look(refresh: Callable[[], None] | None) -> None:
    if refresh is not None:
        refresh()


def _interval_s(before: CpuTimes, after: CpuTimes) -> float:
    """What passed on the board, whose answers may take long to arrive."""
    if before.uptime_s is None or after.uptime_s is None:
        return _INTERVAL_S
    return max(after.uptime_s - before.uptime_s, _INTERVAL_S)


def _events(root: Path) -> int:
    return read_throttle_events(root) or 0


def _check_steal(share: float) -> Iterator[Finding]:
    if share > _STEAL_SHARE:
        yield Finding(
            "unfit" if share > _UNFIT_SHARE else "warning",
            f"the hypervisor takes {share:.0%} of a core away",
            "measure on a machine of its own, or when its neighbours are quiet",
        )


def _check_others(busy: tuple[BusyProcess, ...], n_cores: int, n_used: int) -> Iterator[Finding]:
    shown = [process for process in busy if process.share > _BUSY_SHARE]
    total = sum(process.share for process in shown)
    if not shown:
        return
    names = ", ".join(f"{p.name} ({p.pid}, {p.share:.0%} of a core)" for p in shown[:5])
    has_no_free_core = total > n_cores - n_used + _UNFIT_SHARE
    yield Finding(
        "unfit" if has_no_free_core else "warning",
        f"other processes are running: {names}",
        f"stop them, such as with: kill {' '.join(str(p.pid) for p in shown[:5])}",
    )


def _check_users(root: Path) -> Iterator[Finding]:
    names = [
        line.split()[0] for line in read_text(root, "board/users").splitlines() if line.split()
    ]
    if names:
        yield Finding(
            "warning",
            f"people are logged in: {', '.join(sorted(set(names)))}",
            "ask them to leave the board alone while it measures",
        )


def _check_tick(tick_ns: int | None) -> Iterator[Finding]:
    if tick_ns is not None and tick_ns > _COARSE_TICK_NS:
        yield Finding(
            "warning",
            f"the clock's smallest step is {tick_ns} ns: short kernels need long blocks",
            "cat /sys/devices/system/clocksource/clocksource0/available_clocksource"
            "  # choose tsc or the architecture's counter",
        )
