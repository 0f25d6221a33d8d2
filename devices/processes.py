"""Processor time that processes and the hypervisor have taken, from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.system_files import find_paths, read_text

#: USER_HZ: fixed in the interface of every architecture that the runner supports.
_TICKS_PER_S: Final = 100
_UTIME, _STIME = 11, 12  # fields of /proc/PID/stat, counted after the name in parentheses
_STEAL: Final = 8  # field of the `cpu` line in /proc/stat


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """What was taken since boot.

    Attributes:
        process_s: Processor seconds by (process number, name), without this process itself.
        steal_s: Seconds that the hypervisor took, over all cores.
        n_cores: Cores that are on.
    """

    process_s: Mapping[tuple[int, str], float]
    steal_s: float
    n_cores: int


@dataclass(frozen=True, slots=True)
class BusyProcess:
    """A process and the share of one core that it takes."""

    pid: int
    name: str
    share: float


def read_cpu_times(root: Path) -> CpuTimes:
    """Read the times of all processes that are shown."""
    process_s: dict[tuple[int, str], float] = {}
    for path in find_paths(root, "proc/[0-9]*/stat"):
        pid, _, rest = read_text(path.parent, path.name).partition(" (")
        name, _, fields = rest.rpartition(") ")
        values = fields.split()
        if len(values) > _STIME and int(pid) != os.getpid():
            n_ticks = int(values[_UTIME]) + int(values[_STIME])
            process_s[int(pid), name] = n_ticks / _TICKS_PER_S
    lines = read_text(root, "proc/stat").splitlines()
    total = lines[0].split() if lines else []
    n_cores = sum(line.startswith("cpu") for line in lines) - 1
    steal_s = int(total[_STEAL]) / _TICKS_PER_S if len(total) > _STEAL else 0.0
    return CpuTimes(process_s, steal_s, max(n_cores, 1))


def busy_processes(before: CpuTimes, after: CpuTimes, interval_s: float) -> tuple[BusyProcess, ...]:
    """Processes that took time between two readings, the busiest first."""
    busy = (
        BusyProcess(pid, name, (taken_s - before.process_s.get((pid, name), 0.0)) / interval_s)
        for (pid, name), taken_s in after.process_s.items()
        if (pid, name) in before.process_s
    )
    return tuple(sorted((p for p in busy if p.share > 0), key=lambda p: (-p.share, p.pid)))
