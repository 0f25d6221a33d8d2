"""The state of a board at this moment, as the C runner reads it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from devices.device import Conditions
from devices.system_files import find_paths, read_int, read_text
from devices.throttling import read_throttle_events, read_throttle_flags

_STEAL: Final = re.compile(r"^cpu +(?:\d+ +){7}(\d+)", re.MULTILINE)
_RUNNING: Final = re.compile(r"^procs_running +(\d+)", re.MULTILINE)

_Number = TypeVar("_Number", int, float)


def read_conditions(root: Path, core: int | None) -> Conditions:
    """Read what the board tells.

    Args:
        root: Where `proc` and `sys` are found.
        core: The core that measures; None takes the first.
    """
    stat = read_text(root, "proc/stat")
    folder = f"sys/devices/system/cpu/cpu{core or 0}/cpufreq"
    clock_khz = read_int(root, f"{folder}/scaling_cur_freq")
    zones = find_paths(root, "sys/class/thermal/thermal_zone*/temp")
    heats = [read_int(zone.parent, zone.name) for zone in zones]
    known = [heat / 1000 for heat in heats if heat is not None]
    return Conditions(
        load_1min=_find(re.compile(r"^(\d+\.\d+)"), read_text(root, "proc/loadavg"), float),
        n_running=_find(_RUNNING, stat, int),
        steal_ticks=_find(_STEAL, stat, int),
        clock_mhz=None if clock_khz is None else clock_khz / 1000,
        temperature_c=max(known, default=None),
        throttle_events=read_throttle_events(root),
        throttle_flags=read_throttle_flags(root),
        governor=read_text(root, f"{folder}/scaling_governor") or None,
    )


def _find(pattern: re.Pattern[str], text: str, read: Callable[[str], _Number]) -> _Number | None:
    match = pattern.search(text)
    return read(match[1]) if match else None
