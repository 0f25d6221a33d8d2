"""Made trees of boards that slowed themselves down, for both runners."""

from __future__ import annotations

from pathlib import Path

import pytest

CPU = "sys/devices/system/cpu"

#: Two of three cores were too hot, and the firmware has a word on it.
BOARD = {
    f"{CPU}/cpu0/cpufreq/scaling_governor": "ondemand\n",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
    f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4\n",
    f"{CPU}/cpu2/thermal_throttle/core_throttle_count": "0\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/cpu.stat": "nr_throttled 99\n",
}
STAT = "nr_periods 9\nnr_throttled 5\nthrottled_time 7\n"
FREE = "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"
_V1 = "11:memory:/a\n4:cpu,cpuacct:/lab/board\n1:name=systemd:/x\n0::/\n"
_V1_FOLDER = "sys/fs/cgroup/cpu/lab"

#: Files, and how often the quota was used up.
QUOTAS = [
    pytest.param(
        {
            "proc/self/cgroup": _V1,
            f"{_V1_FOLDER}/board/cpu.cfs_quota_us": "2500\n",
            f"{_V1_FOLDER}/board/cpu.stat": STAT,
        },
        5,
        id="version 1",
    ),
    pytest.param(
        {
            "proc/self/cgroup": _V1,
            f"{_V1_FOLDER}/board/cpu.cfs_quota_us": "-1\n",
            f"{_V1_FOLDER}/board/cpu.stat": FREE,
            f"{_V1_FOLDER}/cpu.cfs_quota_us": "2500\n",
            f"{_V1_FOLDER}/cpu.stat": STAT,
        },
        5,
        id="version 1, of the group above",
    ),
    pytest.param(
        {
            "proc/self/cgroup": "0::/user.slice/board\n",
            "sys/fs/cgroup/user.slice/board/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/board/cpu.stat": FREE,
            "sys/fs/cgroup/user.slice/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/user.slice/cpu.stat": STAT,
        },
        5,
        id="version 2, of the group above",
    ),
    pytest.param(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/cpu.stat": STAT,
        },
        5,
        id="version 2, seen from within",
    ),
    pytest.param(
        {
            "proc/self/cgroup": _V1,
            f"{_V1_FOLDER}/board/cpu.cfs_quota_us": "-1\n",
            f"{_V1_FOLDER}/board/cpu.stat": STAT,
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/cpu.stat": STAT,
        },
        None,
        id="no quota",
    ),
    pytest.param({"proc/self/cgroup": "nonsense\n4:cpu\n"}, None, id="nonsense"),
]


def write_tree(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
