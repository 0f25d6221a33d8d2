"""The store: every visit to a device ever made, failures too, kept for good in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL

from devices.board import Fingerprint
from profiler import store_schema as schema
from profiler.board_records import (
    BoardRecords,
    check_generations,
    lock_devices,
)
from profiler.board_state import UNHEARD, BoardState
from profiler.kernel_histories import KernelName
from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.statistics import (
    VisitMedian,
    summarize_candidates,
    summarize_networks,
    summarize_operators,
    visit_median_us,
)
from profiler.store_open import (
    Clock,
    DamagedStoreError,
    NewerStoreError,
    NotAStoreError,
    StaleGenerationError,
    StoreError,
    StoreFullError,
    StoreUnreachableError,
    connect,
    describe,
    explained,
    locate,
    stamp,
    writing,
)
from profiler.store_rows import (
    InPlace,
    add_in_place,
    read_median,
    read_state,
    select_canaries,
    select_in_place,
    select_medians,
)
from profiler.store_schema import Purpose, Session, SubjectKind, Visit, row_to_visit, visit_to_row

__all__ = [
    "DamagedStoreError",
    "NewerStoreError",
    "NotAStoreError",
    "Purpose",
    "RoundKey",
    "Session",
    "StaleGenerationError",
    "Store",
    "StoreError",
    "StoreFullError",
    "StoreUnreachableError",
    "SubjectKind",
    "Visit",
]

_PROFILE: Final[frozenset[Purpose]] = frozenset({"profile"})
#: Visits to networks that tell how far these follow the canaries.
_NETWORK_PURPOSES: Final[frozenset[Purpose]] = frozenset({"profile", "measure"})
_VISITS: Final = schema.visits.c
#: A board that went down under a kernel is no fault of the kernel until it happens twice.
_FAILED: Final = and_(_VISITS.failure_reason.is_not(None), _VISITS.failure_reason != "board_lost")
_NOT_LOST: Final = or_(_VISITS.failure_reason.is_(None), _VISITS.failure_reason != "board_lost")
_N_ROWS_A_PAGE: Final = 1000
_N_BLOBS_A_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class RoundKey:
    """A visit that need not be made again: what was visited, with which kernel, in which round."""

    subject: str
    schedule: str
    kernel: str
    round_index: int


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Visits to devices in a SQL database; nothing in it is ever changed or taken away.

    Made by `Store.open`; a context manager that closes its connections. May be used by several
    threads, and the same file by several processes.
    """

    def __init__(self, engine: Engine, url: URL, clock: Clock) -> None:
        self._engine = engine
        self._writer = writing(engine)
        self._url = url
        self._clock = clock
        self._operators: dict[str, tuple[str, ...]] = {}
        #: How boards fared: sessions, what took boards down, what is barred.
        self.boards = BoardRecords(engine, url, clock)

    @classmethod
    def open(cls, url_or_path: str | Path, clock: Clock = _utc_now) -> Self:
        """Open a store, making it when there is nothing at that place.

        Args:
            url_or_path: A SQLAlchemy URL, or the path of a SQLite file.
            clock: Stamps rows; timezone-aware.

        Raises:
            StoreError: it cannot be used; each subclass says what to do. The file is unchanged.
            ValueError: the URL cannot be read.
        """
        url = locate(url_or_path)
        return cls(connect(url, stamp(clock)), url, clock)

    @property
    def location(self) -> str:
        """Path or URL (without password), for a person to read."""
        return describe(self._url)

    def close(self) -> None:
        """Close all connections; a closed store opens new ones when it is used again."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def register_device(self, fingerprint: Fingerprint) -> str:
        """Remember a device's board and runtime, once; return its `device_id`."""
        row: dict[str, object] = {
            "device_id": fingerprint.device_id,
            "board": asdict(fingerprint.board),
            "runtime": asdict(fingerprint.runtime),
            "first_seen": stamp(self._clock),
        }
        with explained(self._url), self._writer.begin() as connection:
            _insert_missing(connection, schema.devices, [row])
        return fingerprint.device_id

    def devices(self) -> tuple[Fingerprint, ...]:
        """Every registered device, first seen first."""
        query = select(schema.devices).order_by(
            schema.devices.c.first_seen, schema.devices.c.device_id
        )
        with explained(self._url), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(schema.row_to_fingerprint(row) for row in rows)

    def append(self, visits: Sequence[Visit]) -> None:
        """Keep visits in one transaction: all are on the disk on return, or none is kept.

        Raises:
            ValueError: a visit's device is not registered.
            StaleGenerationError: a visit was made under a lease that somebody else has taken over.
            StoreFullError: no space is left.
            StoreError: the store cannot be written to.
        """
        created = stamp(self._clock)
        rows = [visit_to_row(visit, created) for visit in visits]
        networks = {
            str(row["network_digest"]): {
                "digest": row["network_digest"],
                "name": visit.subject,
                "operators": list(visit.operators),
            }
            for row, visit in zip(rows, visits, strict=True)
            if visit.operators
        }
        if not rows:
            return
        with explained(self._url), self._writer.begin() as connection:
            _check_registered(connection, {visit.device_id for visit in visits})
            check_generations(connection, {visit.session for visit in visits})
            _insert_missing(connection, schema.networks, list(networks.values()))
            connection.execute(insert(schema.visits), rows)

    def visits(
        self,
        device_id: str,
        subject_kind: SubjectKind | None = None,
        subject: str | None = None,
        purposes: Collection[Purpose] | None = None,
    ) -> Iterator[Visit]:
        """Read visits back, oldest first; None asks for all. No lock is held between rows."""
        query = select(schema.visits).where(_VISITS.device_id == device_id)
        if subject_kind is not None:
            query = query.where(_VISITS.subject_kind == subject_kind)
        if subject is not None:
            query = query.where(_VISITS.subject == subject)
        if purposes is not None:
            query = query.where(_VISITS.purpose.in_(purposes))
        for row in self._rows(query, _N_BLOBS_A_PAGE):
            yield row_to_visit(row, self._network_operators(row.network_digest))

    def rounds_done(self, device_id: str, purpose: Purpose) -> frozenset[RoundKey]:
        """Which visits of a purpose were already made, failures among them, to resume there.

        A visit during which the board went down is to be made again.
        """
        query = select(
            _VISITS.subject, _VISITS.schedule, _VISITS.kernel, _VISITS.round_index
        ).where(_VISITS.device_id == device_id, _VISITS.purpose == purpose, _NOT_LOST)
        with explained(self._url), self._engine.connect() as connection:
            return frozenset(RoundKey(*row) for row in connection.execute(query.distinct()))

    def latest_us(self, device_id: str, purpose: Purpose, n: int) -> tuple[float, ...]:
        """Medians of the last n visits of a purpose that did not fail, oldest first."""
        query = (
            select(_VISITS.n_repeats, _VISITS.block_ns)
            .where(
                _VISITS.device_id == device_id,
                _VISITS.purpose == purpose,
                _VISITS.block_ns.is_not(None),
            )
            .order_by(_VISITS.id.desc())
            .limit(n)
        )
        with explained(self._url), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(visit_median_us(row.block_ns, row.n_repeats) for row in reversed(rows))

    def n_visits(self, device_id: str) -> int:
        """How many visits to a device are kept, without canaries and those that were lost."""
        query = select(func.count()).where(
            _VISITS.device_id == device_id, _VISITS.purpose != "canary", _NOT_LOST
        )
        with explained(self._url), self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def n_failures(self, device_id: str) -> int:
        """How many visits to a device failed."""
        query = select(func.count()).where(
            _VISITS.device_id == device_id, _VISITS.failure_reason.is_not(None)
        )
        with explained(self._url), self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def failed_kernels(self, device_id: str) -> frozenset[KernelName]:
        """(subject, schedule, kernel) of everything that ever failed or is in quarantine."""
        query = select(_VISITS.subject, _VISITS.schedule, _VISITS.kernel).where(
            _VISITS.device_id == device_id, _FAILED
        )
        with explained(self._url), self._engine.connect() as connection:
            failed = frozenset(
                (row.subject, row.schedule, row.kernel)
                for row in connection.execute(query.distinct())
            )
        return failed | self.boards.quarantined_kernels(device_id)

    def operator_latencies(
        self, device_id: str, purposes: Collection[Purpose] = _PROFILE
    ) -> tuple[OperatorLatency, ...]:
        """What is known of each operator; see `summarize_operators` for the rules.

        Args:
            device_id: The device.
            purposes: Visits that count, to operators and to networks that hold them. A kernel
                that failed under any purpose is not kept.
        """
        counts = or_(_VISITS.purpose.in_(purposes), _FAILED)
        visits = self._medians(device_id, "operator", counts)
        return summarize_operators(visits, self._in_place(device_id, purposes))

    def best_schedules(
        self,
        device_id: str,
        purposes: Collection[Purpose] = _PROFILE,
        operators: Collection[Operator] | None = None,
    ) -> dict[Operator, Schedule]:
        """The schedule to deploy for each operator: the one in `operator_latencies`.

        Ask with {"tune"} to choose what to profile, and with the default for what was kept.

        Args:
            device_id: The device.
            purposes: Visits that count.
            operators: Those that are asked for; None for all, which takes longer.
        """
        counts = or_(_VISITS.purpose.in_(purposes), _FAILED)
        if operators is not None:
            counts = and_(counts, _VISITS.subject.in_([operator.key for operator in operators]))
        latencies = summarize_operators(self._medians(device_id, "operator", counts), {})
        return {latency.operator: latency.schedule for latency in latencies}

    def candidate_latencies(
        self, device_id: str, purposes: Collection[Purpose]
    ) -> tuple[OperatorLatency, ...]:
        """What is known of every schedule of each operator; see `summarize_candidates`."""
        counts = or_(_VISITS.purpose.in_(purposes), _FAILED)
        return summarize_candidates(self._medians(device_id, "operator", counts))

    def network_latencies(
        self, device_id: str, purposes: Collection[Purpose] = _PROFILE
    ) -> tuple[NetworkLatency, ...]:
        """What is known of each network; see `summarize_networks` for the rules."""
        counts = _VISITS.purpose.in_(purposes)
        return summarize_networks(self._medians(device_id, "network", counts))

    def _medians(
        self, device_id: str, subject_kind: SubjectKind, counts: ColumnElement[bool]
    ) -> Iterator[VisitMedian]:
        # Operators as they were timed: the kernel that is kept must not change with every canary
        # that is heard later, or its programs would have to be measured again.
        state = self._state(device_id) if subject_kind == "network" else UNHEARD
        barred = self.boards.quarantined_kernels(device_id)
        query = select_medians(device_id, subject_kind, and_(counts, _NOT_LOST))
        for row in self._rows(query, _N_ROWS_A_PAGE):
            visit = read_median(row, self._network_operators(row.network_digest), state)
            is_barred = (visit.subject, visit.schedule, visit.kernel) in barred
            yield replace(visit, median_us=None) if is_barred else visit

    def _in_place(self, device_id: str, purposes: Collection[Purpose]) -> InPlace:
        state = self._state(device_id)
        samples: InPlace = defaultdict(list)
        for row in self._rows(select_in_place(device_id, purposes), _N_BLOBS_A_PAGE):
            add_in_place(samples, row, self._network_operators(row.network_digest), state)
        return samples

    def _state(self, device_id: str) -> BoardState:
        state = read_state(self._rows(select_canaries(device_id), _N_ROWS_A_PAGE))
        query = select_medians(device_id, "network", _VISITS.purpose.in_(_NETWORK_PURPOSES))
        as_timed = replace(UNHEARD, timeline=state.timeline)
        visits = (read_median(row, (), as_timed) for row in self._rows(query, _N_ROWS_A_PAGE))
        return state.followed_by(
            (f"{v.subject} {v.kernel}", v.time_s, v.median_us) for v in visits if v.median_us
        )

    def _rows(self, query: Select[Any], n_rows_a_page: int) -> Iterator[Row[Any]]:
        """Rows in order of id, page by page, so that a slow reader holds no transaction open."""
        last_id = 0
        while True:
            page = query.where(_VISITS.id > last_id).order_by(_VISITS.id).limit(n_rows_a_page)
            with explained(self._url), self._engine.connect() as connection:
                rows = connection.execute(page).all()
            yield from rows
            if len(rows) < n_rows_a_page:
                return
            last_id = rows[-1].id

    def _network_operators(self, digest: str | None) -> tuple[str, ...]:
        if digest is None:
            return ()
        if digest not in self._operators:
            query = select(schema.networks.c.operators).where(schema.networks.c.digest == digest)
            with explained(self._url), self._engine.connect() as connection:
                self._operators[digest] = tuple(connection.execute(query).scalar_one())
        return self._operators[digest]


def _check_registered(connection: Connection, device_ids: set[str]) -> None:
    missing = device_ids - lock_devices(connection, device_ids)
    if missing:
        raise ValueError(
            f"device_id must be registered before its visits are appended, "
            f"got {', '.join(sorted(missing))}"
        )


def _insert_missing(connection: Connection, table: Any, rows: Sequence[dict[str, object]]) -> None:
    """Insert rows whose primary key is not there yet."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), list(rows))
    else:
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), list(rows))
