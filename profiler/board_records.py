"""How boards fared: who measured on them, what took them down, which are barred.

A kernel that takes a board down must be known although nobody lives to tell. So a visit that may do
it is a *flight*: written before it starts, or by the host that sees the board fall silent. The next
session knows from the board's boot id whether the board started anew since; if it did, the flight
becomes a visit that failed with `board_lost`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.engine import URL

from profiler.board_schema import flights, quarantine, sessions
from profiler.kernel_histories import KernelName, is_condemned, read_histories
from profiler.session_meter import SessionUse
from profiler.store_open import Clock, StaleGenerationError, explained, stamp, writing
from profiler.store_schema import Session, Visit, devices, visit_to_row, visits

_Outcome = Literal["answered", "same_boot", "board_lost"]


@dataclass(frozen=True, slots=True)
class Lease:
    """A board's lease as a session took it.

    Attributes:
        name: Tells the board's lease from those of other boards; "" where there is none.
        generation: Above that of every session before; 0 without a lease.
    """

    name: str = ""
    generation: int = 0

    def __post_init__(self) -> None:
        if self.generation < 0 or (self.generation > 0) != bool(self.name):
            raise ValueError(
                f"generation must be above 0 with a lease and 0 without one, "
                f"got {self.generation} of lease {self.name!r}"
            )


NO_LEASE: Final = Lease()


def name_lease(device_id: str, device_name: str) -> str:
    """A name for a board's lease: of its hardware, and of what a person calls it.

    Boards of the same make that tell no serial number differ by the latter alone.
    """
    return f"{device_id.partition('-')[0]} {device_name}"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A board that nobody shall measure on, why, and since when (UTC, ISO 8601)."""

    reason: str
    since: str


class BoardRecords:
    """The part of a store that is about boards; see `Store.boards`."""

    def __init__(self, engine: Engine, url: URL, clock: Clock) -> None:
        self._engine = engine
        self._writer = writing(engine)
        self._url = url
        self._clock = clock

    def latest_session(self, lease: str) -> int:
        """Number of the session that began last under a lease; 0 before the first."""
        with explained(self._url), self._engine.connect() as connection:
            return _latest(connection, lease)[0]

    def begin_session(
        self, device_id: str, lease: Lease, boot_id: str, latest_before: int
    ) -> Session:
        """Remember that a host measures from now on: results of sessions before are refused.

        Args:
            device_id: The device.
            lease: The one that the runner took, or `NO_LEASE`.
            boot_id: The board's.
            latest_before: `latest_session` from before the runner was started. A generation that is
                not above that session's counts from the start again, on a lease that was made anew.

        Raises:
            StaleGenerationError: somebody took the lease over since the runner was started.
        """
        row = {
            "device_id": device_id,
            "lease": lease.name,
            "generation": lease.generation,
            "boot_id": boot_id,
            "started": stamp(self._clock),
        }
        with explained(self._url), self._writer.begin() as connection:
            lock_devices(connection, {device_id})
            latest, generation = _latest(connection, lease.name)
            if lease.name and latest != latest_before and generation >= lease.generation:
                raise _stale(lease.generation, generation)
            result = connection.execute(insert(sessions).values(row).returning(sessions.c.id))
            return Session(int(result.scalar_one()), lease.generation, boot_id)

    def end_session(self, session: Session, use: SessionUse) -> None:
        """Keep what the session's time went into."""
        change = update(sessions).where(sessions.c.id == session.number)
        with explained(self._url), self._writer.begin() as connection:
            connection.execute(
                change.values(kernel_s=use.kernel_s, cooling_s=use.cooling_s, lasted_s=use.lasted_s)
            )

    def last_session(self, device_id: str) -> int:
        """The number of the session that began last; 0 before the first."""
        query = select(func.max(sessions.c.id)).where(sessions.c.device_id == device_id)
        with explained(self._url), self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one() or 0)

    def use_of_sessions(self, device_id: str, after: int = 0) -> SessionUse:
        """What the time of all sessions went into that began after a number and have ended."""
        columns = (sessions.c.kernel_s, sessions.c.cooling_s, sessions.c.lasted_s)
        query = select(*(func.coalesce(func.sum(column), 0.0) for column in columns)).where(
            sessions.c.device_id == device_id,
            sessions.c.id > after,
            sessions.c.lasted_s.is_not(None),
        )
        with explained(self._url), self._engine.connect() as connection:
            return SessionUse(*map(float, connection.execute(query).one()))

    def take_off(self, starting: Sequence[Visit]) -> tuple[int, ...]:
        """Remember visits that may take the board down; their outcomes say what they become.

        Args:
            starting: Visits of one session with the failure `board_lost` for an outcome.

        Returns:
            The flights' numbers.
        """
        started = stamp(self._clock)
        rows = [
            {
                "device_id": visit.device_id,
                "boot_id": visit.session.boot_id,
                "visit": visit_to_row(visit, ""),
                "started": started,
            }
            for visit in starting
        ]
        if not rows:
            return ()
        with explained(self._url), self._writer.begin() as connection:
            numbers = [
                connection.execute(insert(flights).values(row).returning(flights.c.id)).scalar_one()
                for row in rows
            ]
        return tuple(map(int, numbers))

    def land(self, numbers: Collection[int]) -> None:
        """The runner answered: these flights did no harm."""
        with explained(self._url), self._writer.begin() as connection:
            _close(connection, numbers, "answered")

    def n_open_flights(self, device_id: str) -> int:
        """How many flights of a device nobody has closed."""
        query = select(func.count()).where(
            flights.c.device_id == device_id, flights.c.outcome.is_(None)
        )
        with explained(self._url), self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def settle_flights(self, device_id: str, session: Session) -> tuple[KernelName, ...]:
        """Judge the flights that nobody closed, now that the board answers again.

        Args:
            device_id: The device.
            session: The one that begins; what it finds out is kept under its lease.

        Returns:
            What was in flight when the board went down.
        """
        query = select(flights).where(flights.c.device_id == device_id, flights.c.outcome.is_(None))
        with explained(self._url), self._writer.begin() as connection:
            found = connection.execute(query.order_by(flights.c.id)).all()
            lost = [row for row in found if row.boot_id != session.boot_id]
            lost_numbers = {row.id for row in lost}
            _close(connection, [row.id for row in found if row.id not in lost_numbers], "same_boot")
            _close(connection, lost_numbers, "board_lost")
            noted = {
                "created": stamp(self._clock),
                "session": session.number,
                "generation": session.generation,
            }
            if lost:
                connection.execute(insert(visits), [row.visit | noted for row in lost])
        return tuple((r.visit["subject"], r.visit["schedule"], r.visit["kernel"]) for r in lost)

    def suspects(self, device_id: str) -> frozenset[KernelName]:
        """What was in flight when the board went down and has not run well since."""
        with explained(self._url), self._engine.connect() as connection:
            histories = read_histories(connection, device_id)
        return frozenset(name for name, events in histories.items() if events[-1].is_lost)

    def quarantined_kernels(self, device_id: str) -> frozenset[KernelName]:
        """What took the board down twice and must never run on it again.

        Twice one after the other, without a sound visit between them, so that somebody who pulls
        a plug now and then condemns nothing; three times where it has run well before.
        """
        with explained(self._url), self._engine.connect() as connection:
            histories = read_histories(connection, device_id)
        return frozenset(name for name, events in histories.items() if is_condemned(events))

    def put_in_quarantine(self, device_id: str, reason: str) -> None:
        """Bar a board; nothing happens when it is barred already."""
        row = {"device_id": device_id, "reason": reason, "since": stamp(self._clock)}
        with explained(self._url), self._writer.begin() as connection:
            lock_devices(connection, {device_id})
            if connection.execute(_open_quarantine(device_id)).first() is None:
                connection.execute(insert(quarantine), row)

    def quarantine_of(self, device_id: str) -> Quarantine | None:
        """Why and since when a board is barred, or None."""
        with explained(self._url), self._engine.connect() as connection:
            row = connection.execute(_open_quarantine(device_id)).first()
        return None if row is None else Quarantine(row.reason, row.since)

    def clear_quarantine(self, device_id: str) -> bool:
        """Let a board be measured on again: somebody saw that it answers and is fit.

        Returns:
            Whether it was barred.
        """
        change = update(quarantine).where(
            quarantine.c.device_id == device_id, quarantine.c.cleared.is_(None)
        )
        with explained(self._url), self._writer.begin() as connection:
            return connection.execute(change.values(cleared=stamp(self._clock))).rowcount > 0


def lock_devices(connection: Connection, device_ids: Collection[str]) -> set[str]:
    """Let nobody else write about these devices until the transaction ends; those that exist.

    SQLite has one writer anyway, and leaves FOR UPDATE out.
    """
    query = (
        select(devices.c.device_id)
        .where(devices.c.device_id.in_(device_ids))
        .order_by(devices.c.device_id)
        .with_for_update()
    )
    return set(connection.execute(query).scalars())


def check_generations(connection: Connection, given: Collection[Session]) -> None:
    """Refuse what comes under a lease that somebody else has taken over since.

    Raises:
        StaleGenerationError: a later session of the same lease has begun.
    """
    for session in given:
        if not session.generation:
            continue
        own = select(sessions.c.lease).where(sessions.c.id == session.number)
        latest, generation = _latest(connection, connection.execute(own).scalar_one_or_none() or "")
        if latest > session.number:
            raise _stale(session.generation, generation)


def _latest(connection: Connection, lease: str) -> tuple[int, int]:
    """Number and generation of the session that began last under a lease; 0, 0 before the first."""
    query = select(sessions.c.id, sessions.c.generation).where(sessions.c.lease == lease)
    row = connection.execute(query.order_by(sessions.c.id.desc()).limit(1)).first()
    return (0, 0) if row is None else (int(row.id), int(row.generation))


def _stale(generation: int, latest: int) -> StaleGenerationError:
    return StaleGenerationError(
        f"results of generation {generation} of the board's lease were refused, and nothing of "
        f"them was kept: generation {latest} has begun, so somebody else took the board over. "
        f"Run again when the board is free"
    )


def _close(connection: Connection, numbers: Collection[int], outcome: _Outcome) -> None:
    if numbers:
        change = update(flights).where(flights.c.id.in_(numbers), flights.c.outcome.is_(None))
        connection.execute(change.values(outcome=outcome))


def _open_quarantine(device_id: str) -> Any:
    return select(quarantine.c.reason, quarantine.c.since).where(
        quarantine.c.device_id == device_id, quarantine.c.cleared.is_(None)
    )
