from __future__ import annotations

from pathlib import Path

from devices.conditions import read_conditions
from devices.device import Conditions

STAT = """cpu  1027 19 4207 3181 6 0 5 77 0 0
cpu0 513 9 2103 1590 3 0 2 41 0 0
intr 5051 0 9
procs_running 3
procs_blocked 0
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_everything_that_a_board_tells_is_read(tmp_path: Path) -> None:
    write(tmp_path, "proc/loadavg", "0.42 0.30 0.10 3/123 4567\n")
    write(tmp_path, "proc/stat", STAT)
    write(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "1800000\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48500\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "61250\n")
    assert read_conditions(tmp_path, 1) == Conditions(0.42, 3, 77, 1800.0, 61.25)


def test_what_a_board_does_not_tell_is_none(tmp_path: Path) -> None:
    assert read_conditions(tmp_path, None) == Conditions(None, None, None, None, None)
    write(tmp_path, "proc/stat", "cpu  1 2 3\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "hot\n")
    assert read_conditions(tmp_path, None) == Conditions(None, None, None, None, None)
