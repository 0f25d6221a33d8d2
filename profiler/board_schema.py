"""The tables of a store that tell how boards fared: sessions, flights, quarantine.

Visits are append-only; a row of these tables is written when something begins, and once more when
it ends.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from profiler.store_schema import metadata

_DEVICE: Final = "devices.device_id"

#: One row for each time that a host began to measure on a board; the seconds come at its end.
sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device_id", String(64), ForeignKey(_DEVICE), nullable=False),
    Column("lease", String(128), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("started", String(40), nullable=False),
    Column("kernel_s", Float),
    Column("cooling_s", Float),
    Column("lasted_s", Float),
    Index("sessions_by_lease", "lease"),
    Index("sessions_by_device", "device_id"),
    sqlite_autoincrement=True,
)

#: Visits that may take the board down, written before they start or when the board fell silent.
#: `visit` is the row of `visits` that it becomes if the board turns out to have started anew.
flights = Table(
    "flights",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device_id", String(64), ForeignKey(_DEVICE), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("visit", JSON, nullable=False),
    Column("started", String(40), nullable=False),
    Column("outcome", String(16)),
    Index("flights_by_device", "device_id"),
    sqlite_autoincrement=True,
)

#: Boards that nobody shall measure on until somebody has looked at them.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device_id", String(64), ForeignKey(_DEVICE), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", String(40), nullable=False),
    Column("cleared", String(40)),
    Index("quarantine_by_device", "device_id"),
    sqlite_autoincrement=True,
)
