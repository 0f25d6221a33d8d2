"""How often a board slowed itself down, as `devices/runner/throttling.c` reads it, too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from devices.system_files import find_paths, read_int, read_text

_COUNTS: Final = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"
_FLAGS: Final = "sys/devices/platform/soc*/soc*:firmware/get_throttled"
_THROTTLED: Final = re.compile(r"^nr_throttled +(\d+)", re.MULTILINE)


def read_throttle_events(root: Path) -> int | None:
    """Times that cores were too hot, since boot.

    Where the board does not count them: times that a quota of processor time was used up, of this
    process's control group or the next one above that has a quota. None: the board does not tell.
    """
    counts = [read_int(path.parent, path.name) for path in find_paths(root, _COUNTS)]
    known = [count for count in counts if count is not None]
    return sum(known) if known else _quota_events(root)


def read_throttle_flags(root: Path) -> int | None:
    """The firmware's flags on a Raspberry Pi, or None."""
    for path in find_paths(root, _FLAGS):
        text = read_text(path.parent, path.name)
        if re.fullmatch(r"(0x)?[0-9a-fA-F]+", text):
            return int(text, 16)
    return None


def _quota_events(root: Path) -> int | None:
    for folder, quota_file in _groups(root):
        quota = re.match(r"\d+", read_text(root, f"{folder}/{quota_file}"))  # not "max", not -1
        count = _THROTTLED.search(read_text(root, f"{folder}/cpu.stat"))
        if quota and int(quota[0]) and count:
            return int(count[1])
    return None


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """Folders of this process's control groups, each before those above it, and the quota's file.

    Lines are such as `4:cpu,cpuacct:/path`, and `0::/path` for the one hierarchy of version 2.
    """
    lines = [line.split(":", 2) for line in read_text(root, "proc/self/cgroup").splitlines()]
    for mount, quota_file, controller in (
        ("sys/fs/cgroup", "cpu.max", ""),
        ("sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu"),
    ):
        for parts in lines:
            if len(parts) == 3 and controller in parts[1].split(","):
                path = PurePosixPath(parts[2])
                for group in (path, *path.parents):
                    yield f"{mount}/{str(group).strip('/')}", quota_file
