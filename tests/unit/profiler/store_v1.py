"""A store as the first schema had it, row by row: what people have on their disks."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from devices.board import Fingerprint
from profiler.store_schema import APPLICATION_ID

CREATED = "2025-11-20T08:30:00.000+00:00"
_TABLES = """
CREATE TABLE store_schema (
  version INTEGER NOT NULL, created VARCHAR(40) NOT NULL, PRIMARY KEY (version)
);
CREATE TABLE devices (
  device_id VARCHAR(64) NOT NULL, board JSON NOT NULL, runtime JSON NOT NULL,
  first_seen VARCHAR(40) NOT NULL, PRIMARY KEY (device_id)
);
CREATE TABLE networks (
  digest VARCHAR(64) NOT NULL, name TEXT NOT NULL, operators JSON NOT NULL, PRIMARY KEY (digest)
);
CREATE TABLE visits (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, device_id VARCHAR(64) NOT NULL,
  subject_kind VARCHAR(16) NOT NULL, subject TEXT NOT NULL, network_digest VARCHAR(64),
  kernel TEXT NOT NULL, schedule TEXT NOT NULL, purpose VARCHAR(16) NOT NULL,
  round_index INTEGER NOT NULL, plan JSON NOT NULL, n_repeats BIGINT, block_ns JSON,
  call_ns BLOB, n_calls INTEGER, tick_ns BIGINT, n_preemptions BIGINT, before JSON, after JSON,
  flags JSON NOT NULL, failure_reason VARCHAR(32), failure_detail TEXT,
  created VARCHAR(40) NOT NULL,
  FOREIGN KEY(device_id) REFERENCES devices (device_id),
  FOREIGN KEY(network_digest) REFERENCES networks (digest)
);
CREATE INDEX visits_by_subject ON visits (device_id, subject_kind, subject, purpose);
CREATE INDEX visits_by_purpose ON visits (device_id, purpose);
CREATE TRIGGER visits_refuse_update BEFORE UPDATE ON visits
  BEGIN SELECT RAISE(ABORT, 'visits are append-only'); END;
CREATE TRIGGER visits_refuse_delete BEFORE DELETE ON visits
  BEGIN SELECT RAISE(ABORT, 'visits are append-only'); END;
"""
_IDLE = {
    "load_1min": 0.1, "n_running": 1, "steal_ticks": 0, "clock_mhz": None, "temperature_c": 40.0,
}  # fmt: skip
_PLAN = {
    "warmup_ns": 1, "min_block_ns": 1, "n_blocks": 3, "with_timestamps": False, "timeout_ms": 100,
}  # fmt: skip


def write_v1(path: Path, device: Fingerprint, n_visits: int, journal: str = "wal") -> None:
    """A store of version 1 with visits of one kernel, the last of which failed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for statement in filter(str.strip, _statements()):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO store_schema VALUES (1, ?)", (CREATED,))
        board, runtime = json.dumps(asdict(device.board)), json.dumps(asdict(device.runtime))
        row = (device.device_id, board, runtime, CREATED)
        connection.execute("INSERT INTO devices VALUES (?, ?, ?, ?)", row)
        for index in range(n_visits):
            _insert_visit(connection, device.device_id, index, fails=index == n_visits - 1)
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA journal_mode = {journal}")


def _statements() -> list[str]:
    """The statements of `_TABLES`; that of a trigger holds a semicolon."""
    return [part.replace("@", ";") for part in _TABLES.replace("'); END", "')@ END").split(";")]


def _insert_visit(
    connection: sqlite3.Connection, device_id: str, index: int, *, fails: bool
) -> None:
    row: dict[str, object] = {
        "device_id": device_id,
        "subject_kind": "operator",
        "subject": "subject a",
        "kernel": "a",
        "schedule": "gemm rows=4",
        "purpose": "profile",
        "round_index": index,
        "plan": json.dumps(_PLAN),
        "flags": json.dumps(["canary_moved"] if index == 0 else []),
        "created": CREATED,
    }
    if fails:
        row |= {"failure_reason": "crash", "failure_detail": "signal 11"}
    else:
        state = json.dumps(_IDLE)
        row |= {
            "n_repeats": 2, "block_ns": json.dumps([index + 1] * 3), "tick_ns": 20,
            "n_preemptions": 0, "before": state, "after": state,
        }  # fmt: skip
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO visits ({names}) VALUES ({marks})", tuple(row.values()))
