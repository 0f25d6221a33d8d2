"""Opening a store: what may be opened, what is left untouched, and what to do about it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from profiler.store_migrate import migrate
from profiler.store_schema import APPLICATION_ID, SCHEMA_VERSION, metadata, store_schema

#: How long a process waits for another one that is writing to the same SQLite file.
BUSY_TIMEOUT_S: Final = 60.0

#: Tells the time, timezone-aware.
Clock = Callable[[], datetime]

# https://www.sqlite.org/fileformat.html, 1.3: the database header
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_USER_VERSION: Final = slice(60, 64)
_APPLICATION_ID: Final = slice(68, 72)


class StoreError(Exception):
    """A store cannot be used; stop and show the message, which says what to do next."""


class NotAStoreError(StoreError):
    """The file or database is something else, and was left as it is; name another one."""


class NewerStoreError(StoreError):
    """A newer Latloop wrote the store, and it was left as it is; upgrade, or name another."""


class DamagedStoreError(StoreError):
    """The store's contents cannot be read; recover or replace it."""


class StoreUnreachableError(StoreError):
    """The path, server or lock cannot be had; fix what the message names and run again."""


class StoreFullError(StoreError):
    """No space is left; nothing of the failed append was kept. Free space and run again."""


class StaleGenerationError(StoreError):
    """Somebody else took the board over; nothing of the append was kept. Wait, and run again."""


def stamp(clock: Clock) -> str:
    """The time as rows hold it: UTC, ISO 8601."""
    return clock().astimezone(UTC).isoformat(timespec="milliseconds")


def locate(url_or_path: str | Path) -> URL:
    """Turn a URL, or the path of a SQLite file, into a URL.

    Raises:
        ValueError: the URL cannot be read, or is SQLite and names no file.
    """
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return URL.create("sqlite", database=str(url_or_path))
    try:
        url = make_url(url_or_path)
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"store URL cannot be read: {error}") from None
    if url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ValueError(f"store URL must name a file, such as sqlite:///store.db, got {url}")
    return url


def connect(url: URL, created: str) -> Engine:
    """Open a store, and make its tables when there is nothing there yet.

    A file that is not a store of this version is told by its header alone: SQLite is never
    started on it, so that not a byte changes.

    Raises:
        StoreError: the store cannot be used; each subclass says why.
        ValueError: the URL names a kind of database that is not known.
    """
    location = describe(url)
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite:
        _check_file(Path(str(url.database)))
    engine = _make_engine(url, location)
    try:
        with explained(url):
            _create_or_check(engine, location, created)
            if is_sqlite:
                _prefer_wal(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def describe(url: URL) -> str:
    """The store's place for a person to read: a path, or a URL without its password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


def writing(engine: Engine) -> Engine:
    """The same engine, but its transactions take SQLite's write lock when they begin.

    A transaction that reads first and asks for the lock later is refused at once when another
    process wrote in between; one that asks first waits its turn.
    """
    return engine.execution_options(writes=True)


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn a database's errors into a `StoreError` that says what to do."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise _explain(error, url) from error
    except sqlite3.Error as error:
        raise _explain(error, url) from error


def _explain(error: DBAPIError | sqlite3.Error, url: URL) -> StoreError:
    place = describe(url)
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = str(getattr(cause, "sqlite_errorname", ""))
    if name == "SQLITE_FULL":
        folder = Path(place).parent
        return StoreFullError(
            f"no space left for store {place}: {shutil.disk_usage(folder).free} bytes free in "
            f"{folder}; nothing of this append was kept. Free some space and run again"
        )
    if name.startswith("SQLITE_BUSY"):
        return StoreUnreachableError(
            f"store {place} is locked: another process kept it for over {BUSY_TIMEOUT_S:.0f} s; "
            f"end that process and run again"
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in str(cause):
        return DamagedStoreError(
            f"store {place} is damaged ({cause}); restore a copy, try "
            f"`sqlite3 {place} .recover`, or name another store with --store"
        )
    return StoreUnreachableError(
        f"store {place} cannot be used ({cause}); check that its folder or server is there and "
        f"that you may write to it, or name another store with --store"
    )


def _check_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise StoreUnreachableError(
            f"store {path} cannot be opened: folder {path.parent} does not exist; "
            f"create it or name another store with --store"
        )
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnreachableError(
            f"store {path} cannot be read: {error.strerror}; "
            f"change its permissions or name another store with --store"
        ) from error
    if header:
        _check_header(path, header)


def _check_header(path: Path, header: bytes) -> None:
    advice = "it was left as it is; name another store with --store"
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise NotAStoreError(
            f"{path} is not a SQLite file (it begins with {header[:16]!r}); {advice}"
        )
    application_id = int.from_bytes(header[_APPLICATION_ID], "big")
    if application_id != APPLICATION_ID:
        raise NotAStoreError(
            f"{path} is a SQLite file of another program (application id "
            f"{application_id:#010x}, a store has {APPLICATION_ID:#010x}); {advice}"
        )
    _check_version(str(path), int.from_bytes(header[_USER_VERSION], "big"))


def _check_version(location: str, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise NewerStoreError(
            f"store {location} has schema version {version}, this Latloop reads up to "
            f"{SCHEMA_VERSION}; it was left as it is. Upgrade Latloop or name another store "
            f"with --store"
        )


def _make_engine(url: URL, location: str) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S} if is_sqlite else {})
    except NoSuchModuleError:
        raise ValueError(f"no database of kind {url.drivername!r} is known: {location}") from None
    except ModuleNotFoundError as error:
        raise StoreUnreachableError(
            f"store {location} needs the package {error.name}; install it and run again"
        ) from error
    if is_sqlite:
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # `_begin` opens transactions, DDL included
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _create_or_check(engine: Engine, location: str, created: str) -> None:
    with engine.connect() as connection:
        if _found_version(connection, location) == SCHEMA_VERSION:
            return
    with writing(engine).begin() as connection:
        version = _found_version(connection, location)
        if version is not None:  # unless another process was faster, an older one
            if version < SCHEMA_VERSION:
                migrate(connection, version, created)
            return
        metadata.create_all(connection)
        if engine.dialect.name == "sqlite":
            # In one rollback-journal transaction with the tables, so that the header on the
            # disk carries both from the first instant: `_check_header` reads nothing else.
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute(insert(store_schema), {"version": SCHEMA_VERSION, "created": created})


def _found_version(connection: Connection, location: str) -> int | None:
    """The version of the store that is there; None where there is nothing yet."""
    tables = set(inspect(connection).get_table_names())
    if store_schema.name in tables:
        found = connection.execute(select(store_schema.c.version)).scalars().all()
        version = max(found, default=0)
        _check_version(location, version)
        return version
    clashes = tables & set(metadata.tables)
    if clashes:
        raise NotAStoreError(
            f"{location} has tables {', '.join(sorted(clashes))} of another program; "
            f"it was left as it is; name another store with --store"
        )
    return None


def _prefer_wal(engine: Engine) -> None:
    """Let readers and a writer work side by side; a locked file keeps its journal for now."""
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
        finally:
            cursor.close()
