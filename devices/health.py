"""Is a board fit to be measured on now? What speaks against it, and the command that helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from devices.processes import BusyProcess, busy_processes, read_cpu_times
from devices.system_files import read_text

Severity = Literal["note", "warning", "unfit"]

_INTERVAL_S: Final = 1.0
_CPU: Final = "sys/devices/system/cpu"
#: A core's share that others may take before samples are visibly disturbed, and before they are
#: worthless.
_BUSY_SHARE: Final = 0.05
_UNFIT_SHARE: Final = 0.5
_STEAL_SHARE: Final = 0.01
_HOT_C: Final = 80.0
#: Blocks last at least 1,000 ticks: above this a block is too long for short kernels.
_COARSE_TICK_NS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One reading that disturbs measurements.

    Attributes:
        severity: `unfit` means that measurements would be worthless now.
        text: The reading, with its number.
        remedy: A command to type, or what to do.
    """

    severity: Severity
    text: str
    remedy: str


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
) -> Health:
    """Look at the board for one second.

    Args:
        cores: The cores that run what is measured.
        tick_ns: Smallest step of the clock, from the runner's description, where it is known.
        root: Where `proc` and `sys` are found.
        sleep: Waits so many seconds.
    """
    before = read_cpu_times(root)
    sleep(_INTERVAL_S)
    after = read_cpu_times(root)
    busy = busy_processes(before, after, _INTERVAL_S)
    return Health(
        (
            *(finding for core in cores for finding in _check_governor(root, core)),
            *_check_turbo(root),
            *_check_steal(before.steal_s, after.steal_s),
            *_check_others(busy, after.n_cores, len(cores)),
            *_check_temperature(root),
            *_check_clock(tick_ns),
        )
    )


def _check_governor(root: Path, core: int) -> Iterator[Finding]:
    path = f"{_CPU}/cpu{core}/cpufreq/scaling_governor"
    governor = read_text(root, path)
    if governor and governor != "performance":
        yield Finding(
            "warning",
            f"the clock governor of core {core} is {governor}: the clock follows the load",
            f"echo performance | sudo tee /{path}",
        )


def _check_turbo(root: Path) -> Iterator[Finding]:
    no_turbo = f"{_CPU}/intel_pstate/no_turbo"
    boost = f"{_CPU}/cpufreq/boost"
    for path, on, off in ((no_turbo, "0", "1"), (boost, "1", "0")):
        if read_text(root, path) == on:
            yield Finding(
                "note",
                "turbo clocks are on: the clock depends on temperature and on other cores",
                f"echo {off} | sudo tee /{path}",
            )


def _check_steal(before_s: float, after_s: float) -> Iterator[Finding]:
    share = (after_s - before_s) / _INTERVAL_S
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


def _check_temperature(root: Path) -> Iterator[Finding]:
    for path in sorted(root.glob("sys/class/thermal/thermal_zone*/temp")):
        text = read_text(path.parent, path.name)
        if text.isdigit() and int(text) / 1000 > _HOT_C:
            yield Finding(
                "warning",
                f"{path.parent.name} is at {int(text) / 1000:.0f} °C: the clock may be throttled",
                "let the board cool down, or give it a fan",
            )


def _check_clock(tick_ns: int | None) -> Iterator[Finding]:
    if tick_ns is not None and tick_ns > _COARSE_TICK_NS:
        yield Finding(
            "warning",
            f"the clock's smallest step is {tick_ns} ns: short kernels need long blocks",
            "cat /sys/devices/system/clocksource/clocksource0/available_clocksource"
            "  # choose tsc or the architecture's counter",
        )
