"""The installed command `latloop`, run as a person runs it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.command import Done

LATLOOP = Path(sys.executable).with_name("latloop")
SPACE_FOLDER = Path(__file__).parent
_TIMEOUT_S = 300
_N_TRIES = 4


def environment(home: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("LATLOOP_")}
    return own | {"LATLOOP_HOME": str(home), "PYTHONPATH": str(SPACE_FOLDER)}


def latloop(
    home: Path,
    *arguments: str | Path,
    command: Path = LATLOOP,
    timeout_s: float = _TIMEOUT_S,
) -> Done:
    """Run a command to its end, in an empty folder beside the home."""
    with tempfile.TemporaryDirectory(dir=home.parent) as elsewhere:
        done = subprocess.run(
            [command, *arguments],
            stdin=subprocess.DEVNULL,
            env=environment(home),
            cwd=elsewhere,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def insist(home: Path, *arguments: str | Path) -> Done:
    """Run a command that proves a limit, again where the answer is no.

    What else runs on this machine may take half of it for a while: no limit holds then.
    """
    done = latloop(home, *arguments)
    for _ in range(_N_TRIES - 1):
        if done.code != 1:
            break
        done = latloop(home, *arguments)
    return done


def make_home(folder: Path, build_cache: Path) -> Path:
    """An empty LATLOOP_HOME, but that zig finds its libc, and the runner that was compiled before.

    Compiling the one takes half a minute, the other some seconds.
    """
    link = folder / "cache" / "link"
    link.mkdir(parents=True)
    for name in ("zig", "runners"):
        shared = build_cache.absolute() / name
        shared.mkdir(parents=True, exist_ok=True)
        (link / name).symlink_to(shared)
    return folder


def read_rows(home: Path) -> list[tuple[Any, ...]]:
    """Every visit in the store, column by column, in order."""
    if not (home / "store.sqlite").exists():
        return []
    with closing(sqlite3.connect(home / "store.sqlite")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'visits'")
        if not tables.fetchall():
            return []
        return connection.execute("SELECT * FROM visits ORDER BY id").fetchall()


def processes_of(home: Path) -> dict[int, str]:
    """Command lines of living processes that were started for this home, directly or not."""
    mark = f"LATLOOP_HOME={home}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = command.decode(errors="replace")
        except OSError:  # it ended, or is somebody else's
            continue
    return found


def travel_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, travel: Callable[[Path], dict[str, Done]]
) -> tuple[Path, dict[str, Done]]:
    """Make a journey once a session, whichever worker needs it first; the others wait for it.

    Args:
        tmp_path_factory: pytest's.
        name: Of the journey.
        travel: Runs commands in an empty folder and returns what each step answered.

    Returns:
        The folder, which other tests may be reading, and the steps.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # all workers of a session share it
    folder, kept = base / name, base / f"{name}.json"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with board_lease():
                steps = travel(folder)
            kept.write_text(json.dumps({step: asdict(done) for step, done in steps.items()}))
    return folder, {step: Done(**done) for step, done in json.loads(kept.read_text()).items()}


@contextmanager
def board_lease() -> Iterator[None]:
    """Have the board alone among all tests: two that measure at once would mislead each other."""
    with (Path(tempfile.gettempdir()) / f"latloop-tests-{os.getuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
