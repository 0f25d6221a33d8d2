"""Stores of the first schema, opened by this one."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from devices.device import Failure, Timing
from profiler.board_records import Lease
from profiler.store import Session, Store
from profiler.store_schema import SCHEMA_VERSION

from .scripted import DEVICE
from .store_v1 import CREATED, write_v1
from .test_board_records import VISIT

ROOT = Path(__file__).parents[3]


def layout(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The columns of every table, and what guards them."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        found = {
            name: [row[1:] for row in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in names
        }
        others = "SELECT type, name FROM sqlite_master WHERE type IN ('index', 'trigger')"
        found["guards"] = sorted(connection.execute(others).fetchall())
        return found


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_an_older_store_opens_with_all_that_it_holds(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "store.db"
    write_v1(path, DEVICE, 5, journal)
    with Store.open(path) as store:
        rows = list(store.visits(DEVICE.device_id))
        assert store.devices() == (DEVICE,)
        assert [row.round_index for row in rows] == list(range(5))
        assert {row.created for row in rows} == {CREATED}
        assert {row.session for row in rows} == {Session()}
        assert [row.flags for row in rows] == [("canary_moved",), (), (), (), ()]
        first, last = rows[0].outcome, rows[-1].outcome
        assert last == Failure("crash", "signal 11")
        assert isinstance(first, Timing)
        assert (first.block_ns, first.n_repeats) == ((1, 1, 1), 2)
        assert first.before.temperature_c == 40.0
        assert first.before.throttle_events is None
        assert store.failed_kernels(DEVICE.device_id) == {("subject a", "gemm rows=4", "a")}


def test_it_takes_what_this_schema_adds(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    write_v1(path, DEVICE, 2)
    with Store.open(path) as store:
        session = store.boards.begin_session(DEVICE.device_id, Lease("board", 3), "boot", 0)
        store.append([replace(VISIT, session=session)])
        store.boards.put_in_quarantine(DEVICE.device_id, "no answer")
    with Store.open(path) as store:
        assert [row.session for row in store.visits(DEVICE.device_id)][-1] == session
        assert store.boards.quarantine_of(DEVICE.device_id) is not None
    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute("UPDATE visits SET generation = 4")


def test_it_is_then_laid_out_as_a_new_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    write_v1(old, DEVICE, 1)
    for path in (old, new):
        Store.open(path).close()
    assert layout(old) == layout(new)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        versions = connection.execute("SELECT version FROM store_schema").fetchall()
        assert versions == [(1,), (SCHEMA_VERSION,)]


def test_an_older_latloop_that_still_writes_to_it_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    write_v1(path, DEVICE, 1)
    with closing(sqlite3.connect(path)) as older:
        older.execute("SELECT count(*) FROM visits").fetchall()
        Store.open(path).close()
        older.execute(
            "INSERT INTO visits (device_id, subject_kind, subject, kernel, schedule, purpose, "
            "round_index, plan, flags, failure_reason, created) "
            "SELECT device_id, subject_kind, subject, kernel, schedule, purpose, 9, plan, flags, "
            "failure_reason, created FROM visits"
        )
        older.commit()
    with Store.open(path) as store:
        rows = list(store.visits(DEVICE.device_id))
        assert [(row.round_index, row.session) for row in rows] == [(0, Session()), (9, Session())]


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[3])
from sqlalchemy import Engine, event
from profiler.store import Store
left = int(sys.argv[2])
def count(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
event.listen(Engine, "after_cursor_execute", count)
Store.open(sys.argv[1])
"""


def test_a_kill_while_it_is_changed_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    for n_statements in (1, 4, 6, 8, 10, 12):
        path = tmp_path / f"{n_statements}.db"
        write_v1(path, DEVICE, 3)
        command = [sys.executable, "-c", KILLED, str(path), str(n_statements), str(ROOT)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        with Store.open(path) as store:
            assert len(list(store.visits(DEVICE.device_id))) == 3
            assert store.boards.last_session(DEVICE.device_id) == 0


def test_two_processes_that_open_it_at_once_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    write_v1(path, DEVICE, 3)
    code = "import sys\nfrom profiler.store import Store\nStore.open(sys.argv[1]).close()"
    command = [sys.executable, "-c", code, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    opened = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [process.wait(timeout=120) for process in opened] == [0] * 4
    with Store.open(path) as store:
        assert len(list(store.visits(DEVICE.device_id))) == 3
