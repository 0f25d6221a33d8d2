"""Processor time that processes and the hypervisor have taken, from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.system_files import find_paths, read_int, read_text

#: USER_HZ: fixed in the interface of every architecture that the runner supports.
_TICKS_PER_S: Final = 100
# Fields of /proc/PID/stat, counted after the name in parentheses.
_PARENT, _UTIME, _STIME = 1, 11, 12
_STEAL: Final = 8  # field of the `cpu` line in /proc/stat


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """What was taken since boot.

    Attributes:
        process_s: Processor seconds by (process number, name), without those that read this.
        steal_s: Seconds that the hypervisor took, over all cores.
        n_cores: Cores that are on.
        uptime_s: Seconds since boot when this was read; None where the board does not tell.
    """

    process_s: Mapping[tuple[int, str], float]
    steal_s: float
    n_cores: int
    uptime_s: float | None = None


@dataclass(frozen=True, slots=True)
class BusyProcess:
    """A process and the share of one core that it takes."""

    pid: int
    name: str
    share: float


def read_cpu_times(root: Path) -> CpuTimes:
    """Read the times of all processes that are shown.

    A snapshot is read by a script on the board. It and the processes that it descends from (the
    SSH server's for this connection) are there for our sake, and left out.
    """
    process_s: dict[tuple[int, str], float] = {}
    parents: dict[int, int] = {}
    for path in find_paths(root, "proc/[0-9]*/stat"):
        number, _, rest = read_text(path.parent, path.name).partition(" (")
        name, _, fields = rest.rpartition(") ")
        values = fields.split()
        if len(values) > _STIME and number.isdigit():
            n_ticks = int(values[_UTIME]) + int(values[_STIME])
            process_s[int(number), name] = n_ticks / _TICKS_PER_S
            parents[int(number)] = int(values[_PARENT])
    ours = _readers(root, parents)
    lines = read_text(root, "proc/stat").splitlines()
    total = lines[0].split() if lines else []
    n_cores = sum(line.startswith("cpu") for line in lines) - 1
    steal_s = int(total[_STEAL]) / _TICKS_PER_S if len(total) > _STEAL else 0.0
    others_s = {
        process: taken_s for process, taken_s in process_s.items() if process[0] not in ours
    }
    return CpuTimes(others_s, steal_s, max(n_cores, 1), _uptime_s(root))


def _readers(root: Path, parents: Mapping[int, int]) -> set[int]:
    """Processes that are there to read this."""
    reader = read_int(root, "board/pid")
    if reader is None:
        return {os.getpid()}
    ours = set()
    while reader is not None and reader not in ours:
        ours.add(reader)
        reader = parents.get(reader)
    return ours


def _uptime_s(root: Path) -> float | None:
    match = re.match(r"\d+\.\d+", read_text(root, "proc/uptime"))
    return None if match is None else float(match[0])


def busy_processes(before: CpuTimes, after: CpuTimes, interval_s: float) -> tuple[BusyProcess, ...]:
    """Processes that took time between two readings, the busiest first."""
    busy = (
        BusyProcess(pid, name, (taken_s - before.process_s.get((pid, name), 0.0)) / interval_s)
        for (pid, name), taken_s in after.process_s.items()
        if (pid, name) in before.process_s
    )
    return tuple(sorted((p for p in busy if p.share > 0), key=lambda p: (-p.share, p.pid)))
