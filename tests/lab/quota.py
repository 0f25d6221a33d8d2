"""A bound on the processor time of a board: a control group that all of its processes are in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .board import Board, command

_CGROUP = Path("/sys/fs/cgroup")
_IS_UNIFIED = (_CGROUP / "cgroup.controllers").exists()
_CPU = _CGROUP if _IS_UNIFIED else _CGROUP / "cpu"
PERIOD_US = 100_000


@contextmanager
def throttled_by(board: Board, quota_us: int) -> Iterator[Path]:
    """Start a board that gets so much of each 100 ms, and shows it in its /sys, as boards do."""
    group = _CPU / f"latloop-lab-{os.getpid()}-{board.number}"
    shown = board.root / _CPU.relative_to("/")
    shown.mkdir(parents=True, exist_ok=True)
    group.mkdir()
    try:
        set_quota(group, quota_us)
        command("mount", "--bind", _CPU, shown)
        try:
            board.start()  # its own mounts are a copy of these
        finally:
            command("umount", shown)
        for pid in board.all_processes():
            with suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(f"{pid}\n", encoding="ascii")
        yield group
    finally:
        board.stop()
        subprocess.run(["rmdir", group], check=True)


def set_quota(group: Path, quota_us: int) -> None:
    """Processor time of each period; -1 for all there is."""
    if _IS_UNIFIED:
        text = "max" if quota_us < 0 else str(quota_us)
        (group / "cpu.max").write_text(f"{text} {PERIOD_US}\n", encoding="ascii")
    else:
        (group / "cpu.cfs_period_us").write_text(f"{PERIOD_US}\n", encoding="ascii")
        (group / "cpu.cfs_quota_us").write_text(f"{quota_us}\n", encoding="ascii")
