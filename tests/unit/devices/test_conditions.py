from __future__ import annotations

from pathlib import Path

import pytest

from devices.conditions import read_conditions
from devices.device import Conditions

from .throttled import BOARD, QUOTAS, write_tree

STAT = """cpu  1027 19 4207 3181 6 0 5 77 0 0
cpu0 513 9 2103 1590 3 0 2 41 0 0
intr 5051 0 9
procs_running 3
procs_blocked 0
"""


@pytest.mark.parametrize(("files", "n_events"), QUOTAS)
def test_a_quota_of_processor_time_is_counted_where_heat_is_not(
    tmp_path: Path, files: dict[str, str], n_events: int | None
) -> None:
    write_tree(tmp_path, files)
    assert read_conditions(tmp_path, 0).throttle_events == n_events


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_everything_that_a_board_tells_is_read(tmp_path: Path) -> None:
    write(tmp_path, "proc/loadavg", "0.42 0.30 0.10 3/123 4567\n")
    write(tmp_path, "proc/stat", STAT)
    write(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "1800000\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48500\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "61250\n")
    write_tree(tmp_path, BOARD)
    write(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n")
    assert read_conditions(tmp_path, 1) == Conditions(
        0.42, 3, 77, 1800.0, 61.25, 7, 0x50005, "powersave"
    )


def test_what_a_board_does_not_tell_is_none(tmp_path: Path) -> None:
    assert read_conditions(tmp_path, None) == Conditions(None, None, None, None, None)
    write(tmp_path, "proc/stat", "cpu  1 2 3\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "hot\n")
    assert read_conditions(tmp_path, None) == Conditions(None, None, None, None, None)
