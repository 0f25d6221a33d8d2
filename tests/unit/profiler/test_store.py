"""A SQLite store under rough treatment: kills, crowds, foreign files, full disks."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import Engine, event

from devices.board import Board, Fingerprint, Runtime
from devices.device import Conditions, Failure, Timing, TimingPlan
from profiler.operator import Operator
from profiler.store import (
    DamagedStoreError,
    NewerStoreError,
    NotAStoreError,
    Store,
    StoreError,
    StoreFullError,
    StoreUnreachableError,
    Visit,
)
from profiler.store_schema import APPLICATION_ID, SCHEMA_VERSION, row_to_visit, visit_to_row

ROOT = Path(__file__).parents[3]
DEVICE = Fingerprint(
    Board("x86_64", "Some CPU", (), 2, 1 << 32, 0, 0, 0, None, ""),
    Runtime("latloop", 1, (), "6.1", "Debian 12", ""),
)
CONV = Operator("conv2d", (1, 8, 8, 16), 32)
IDLE = Conditions(None, None, None, None, None)
TIMING = Timing(1, (1000, 1001, 1002), None, 20, 0, IDLE, IDLE)
VISIT = Visit(
    device_id=DEVICE.device_id,
    subject_kind="operator",
    subject=CONV.key,
    kernel="hash",
    schedule="gemm rows=4",
    purpose="profile",
    round_index=0,
    plan=TimingPlan(1, 1, 3, False, 100),
    outcome=TIMING,
)

# Appends batches of three and prints a round's number once its append has returned.
APPENDER = """
import sys
from dataclasses import replace
sys.path[:0] = sys.argv[3:]
from test_store import DEVICE, VISIT
from profiler.store import Store
first, n_rounds = int(sys.argv[2].split(",")[0]), int(sys.argv[2].split(",")[1])
with Store.open(sys.argv[1]) as store:
    store.register_device(DEVICE)
    for index in range(first, first + n_rounds):
        store.append([replace(VISIT, round_index=index, kernel=f"k{i}") for i in range(3)])
        print(index, flush=True)
"""


def start_appender(path: Path, first: int, n_rounds: int = 10**6) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", APPENDER, path, f"{first},{n_rounds}", ROOT, Path(__file__).parent],
        stdout=subprocess.PIPE,
        text=True,
    )


def rounds_in(path: Path) -> dict[int, int]:
    """How many rows each round has."""
    found: dict[int, int] = {}
    with Store.open(path) as store:
        for row in store.visits(DEVICE.device_id):
            found[row.round_index] = found.get(row.round_index, 0) + 1
    return found


def folder_digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@contextmanager
def expect_unaltered(folder: Path, error: type[StoreError], match: str) -> Iterator[None]:
    before = folder_digest(folder)
    with pytest.raises(error, match=match):
        yield
    assert folder_digest(folder) == before


def test_every_acknowledged_row_survives_sigkill_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    rng = random.Random(7)
    acknowledged: set[int] = set()
    for kill in range(6):
        with start_appender(path, first=kill * 10**6) as child:
            assert child.stdout is not None
            if kill > 1:  # the first two kills may come while the file is being made
                acknowledged.add(int(child.stdout.readline()))
            time.sleep(rng.uniform(0.0, 0.2) if kill > 1 else rng.uniform(0.5, 0.9))
            child.send_signal(signal.SIGKILL)
            acknowledged.update(int(line) for line in child.stdout if line.endswith("\n"))
        found = rounds_in(path)
        assert acknowledged <= set(found)
        assert set(found.values()) <= {3}, "a batch was kept in part"
    assert len(acknowledged) > 4


def test_a_kill_while_it_is_being_made_leaves_a_store_that_opens(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from sqlalchemy import Engine, event\n"
        "from profiler.store import Store\n"
        "left = int(sys.argv[2])\n"
        "def count(*_):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left < 0: os.kill(os.getpid(), 9)\n"
        "event.listen(Engine, 'after_cursor_execute', count)\n"
        "Store.open(sys.argv[1])\n"
    )
    for n_statements in (1, 6, 13):  # making takes more than these
        path = tmp_path / f"{n_statements}.db"
        command = [sys.executable, "-c", code, path, str(n_statements), ROOT]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        with Store.open(path) as store:
            assert store.devices() == ()


def test_two_processes_that_append_at_once_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"  # both may have to make it, too
    children = [start_appender(path, first, n_rounds=60) for first in (0, 1000)]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert rounds_in(path) == dict.fromkeys([*range(60), *range(1000, 1060)], 3)


def test_a_reader_in_the_middle_does_not_hold_up_an_append(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        store.register_device(DEVICE)
        store.append([replace(VISIT, round_index=i) for i in range(150)])
        reader = store.visits(DEVICE.device_id)
        next(reader)
        with Store.open(tmp_path / "store.db") as another:
            another.append([VISIT])
        assert len(list(reader)) == 150


def test_rows_cannot_be_changed_or_deleted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.register_device(DEVICE)
        store.append([VISIT])
    with closing(sqlite3.connect(path)) as connection:
        for statement in ("DELETE FROM visits", "UPDATE visits SET block_ns = '[1]'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


def test_a_file_that_is_not_sqlite_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("milk, eggs\n" * 50)
    with expect_unaltered(tmp_path, NotAStoreError, r"notes\.txt is not a SQLite file.*--store"):
        Store.open(path)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_foreign_sqlite_file_is_refused_and_left_alone(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE visits (place TEXT)")
        connection.commit()
        with expect_unaltered(tmp_path, NotAStoreError, "another program.*--store"):
            Store.open(path)


def test_a_store_of_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        connection.execute("UPDATE store_schema SET version = version + 1")
        connection.commit()
    with expect_unaltered(
        tmp_path, NewerStoreError, f"version {SCHEMA_VERSION + 1}.*Upgrade Latloop"
    ):
        Store.open(path)


def test_a_newer_schema_is_seen_even_where_the_header_does_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE store_schema SET version = version + 1")
        connection.commit()
    with pytest.raises(NewerStoreError, match="Upgrade Latloop"):
        Store.open(path)


def test_foreign_tables_under_our_mark_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("CREATE TABLE visits (place TEXT)")
        connection.commit()
    with expect_unaltered(tmp_path, NotAStoreError, "tables visits of another program"):
        Store.open(path)


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    with Store.open(path) as store:
        assert store.devices() == ()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with expect_unaltered(tmp_path, StoreUnreachableError, "absent does not exist; create it"):
        Store.open(tmp_path / "absent" / "store.db")


def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError, match="cannot be read: Is a directory"):
        Store.open(tmp_path)


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    Store.open(path).close()

    def refuse(*_: object) -> None:  # permissions do not bind root, who may run this test
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreUnreachableError, match=r"store\.db cannot be read: Permission denied"):
        Store.open(path)


def test_damaged_contents_are_reported_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.register_device(DEVICE)
        store.append([VISIT] * 200)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(DamagedStoreError, match=r"is damaged.*recover"), Store.open(path) as store:
        list(store.visits(DEVICE.device_id))


def test_a_truncated_store_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.register_device(DEVICE)
        store.append([VISIT] * 200)
    os.truncate(path, 3 * 4096)
    with pytest.raises(StoreError, match=r"store\.db"), Store.open(path) as store:
        list(store.visits(DEVICE.device_id))


def test_a_full_disk_keeps_what_was_there_and_nothing_of_the_append(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.register_device(DEVICE)
        store.append([VISIT] * 10)
    n_pages = path.stat().st_size // 4096

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {n_pages + 2}")

    event.listen(Engine, "connect", limit)
    try:
        with (
            Store.open(path) as store,
            pytest.raises(StoreFullError, match=r"no space left.*bytes free"),
        ):
            store.append([replace(VISIT, round_index=1)] * 500)
    finally:
        event.remove(Engine, "connect", limit)
    assert rounds_in(path) == {0: 10}


def test_a_locked_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr("profiler.store_open.BUSY_TIMEOUT_S", 0.1)
    with Store.open(path) as store, closing(sqlite3.connect(path)) as other:
        store.register_device(DEVICE)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnreachableError, match="is locked"):
            store.append([VISIT])


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "fridge://door", "no url ://"])
def test_a_url_that_names_no_store_is_the_callers_mistake(url: str) -> None:
    with pytest.raises(ValueError, match=r"store URL|no database of kind"):
        Store.open(url)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreUnreachableError, match="needs the package psycopg"):
        Store.open("postgresql+psycopg://me:secret@host/latloop")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"purpose": "fun"}, "purpose must be"),
        ({"subject_kind": "kernel"}, "subject_kind must be"),
        ({"round_index": -1}, "round_index must be >= 0"),
        ({"operators": (CONV.key,)}, "operators must be given for a network"),
        ({"subject_kind": "network"}, "operators must be given for a network"),
        ({"outcome": replace(TIMING, block_ns=())}, "blocks above 0 ns"),
        ({"outcome": replace(TIMING, block_ns=(5, 0))}, "blocks above 0 ns"),
        ({"outcome": replace(TIMING, n_repeats=0)}, "n_repeats >= 1"),
        (
            {
                "subject_kind": "network",
                "operators": (CONV.key,),
                "outcome": replace(TIMING, call_ns=np.ones((4, 2), np.int64)),
            },
            "call_ns must have shape",
        ),
    ],
)
def test_a_visit_that_means_nothing_is_refused(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        replace(VISIT, **changes)  # type: ignore[arg-type]


def test_a_failure_needs_no_samples() -> None:
    assert replace(VISIT, outcome=Failure("crash", "signal 11")).flags == ()


def test_a_visit_from_before_boards_told_of_throttling_is_read() -> None:
    row = visit_to_row(VISIT, "2026-01-01T00:00:00+00:00")
    for column in ("before", "after"):
        for key in ("throttle_events", "throttle_flags", "governor"):
            del row[column][key]
    assert row_to_visit(SimpleNamespace(**row), ()).outcome == TIMING
