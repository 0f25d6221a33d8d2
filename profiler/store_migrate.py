"""Bringing the tables of an older store up to date, in place and in one transaction."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, insert

from profiler import board_schema
from profiler.store_schema import SCHEMA_VERSION, metadata, store_schema

#: What version 2 adds to visits; every row that is there gets the default.
_VISITS_OF_2: Final = (
    "ALTER TABLE visits ADD COLUMN session BIGINT DEFAULT '0' NOT NULL",
    "ALTER TABLE visits ADD COLUMN generation BIGINT DEFAULT '0' NOT NULL",
    "ALTER TABLE visits ADD COLUMN boot_id VARCHAR(64) DEFAULT '' NOT NULL",
)
_TABLES_OF_2: Final = (board_schema.sessions, board_schema.flights, board_schema.quarantine)


def migrate(connection: Connection, version: int, created: str) -> None:
    """Change the tables of a store of an older version to this one's.

    Either all of it happens or nothing, and no row of a visit is touched: what is new has defaults.

    Args:
        connection: In a transaction that writes.
        version: The store's.
        created: When, UTC in ISO 8601.
    """
    if version < 2:
        for statement in _VISITS_OF_2:
            connection.exec_driver_sql(statement)
        metadata.create_all(connection, tables=list(_TABLES_OF_2))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute(insert(store_schema), {"version": SCHEMA_VERSION, "created": created})
