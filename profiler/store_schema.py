"""The tables of a store, and the record that one row of `visits` holds."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    Text,
    event,
)

from devices.board import Board, Fingerprint, Runtime
from devices.device import Conditions, Failure, Timing, TimingPlan

SubjectKind = Literal["operator", "network"]
Purpose = Literal["tune", "profile", "evaluate", "verify", "measure", "canary", "calibrate"]
PURPOSES: Final[tuple[str, ...]] = get_args(Purpose)

#: Marks the header of every SQLite file that is a store; "LatL" in ASCII.
APPLICATION_ID: Final = 0x4C61744C
#: Raised by every change after which an older Latloop would misread a store.
SCHEMA_VERSION: Final = 2

_JSON: Final = JSON(none_as_null=True)

metadata = MetaData()

store_schema = Table(
    "store_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created", String(40), nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("board", _JSON, nullable=False),
    Column("runtime", _JSON, nullable=False),
    Column("first_seen", String(40), nullable=False),
)

networks = Table(
    "networks",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("operators", _JSON, nullable=False),
)

visits = Table(
    "visits",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device_id", String(64), ForeignKey("devices.device_id"), nullable=False),
    Column("subject_kind", String(16), nullable=False),
    Column("subject", Text, nullable=False),
    Column("network_digest", String(64), ForeignKey("networks.digest")),
    Column("kernel", Text, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("round_index", Integer, nullable=False),
    Column("plan", _JSON, nullable=False),
    Column("n_repeats", BigInteger),
    Column("block_ns", _JSON),
    Column("call_ns", LargeBinary),
    Column("n_calls", Integer),
    Column("tick_ns", BigInteger),
    Column("n_preemptions", BigInteger),
    Column("before", _JSON),
    Column("after", _JSON),
    Column("flags", _JSON, nullable=False),
    Column("failure_reason", String(32)),
    Column("failure_detail", Text),
    Column("created", String(40), nullable=False),
    # Since version 2, with defaults: an older Latloop may still be writing to a store it has open.
    Column("session", BigInteger, nullable=False, server_default="0"),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("boot_id", String(64), nullable=False, server_default=""),
    Index("visits_by_subject", "device_id", "subject_kind", "subject", "purpose"),
    Index("visits_by_purpose", "device_id", "purpose"),
    sqlite_autoincrement=True,
)

for _change in ("UPDATE", "DELETE"):
    event.listen(
        visits,
        "after_create",
        DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this one untyped
            f"CREATE TRIGGER visits_refuse_{_change.lower()} BEFORE {_change} ON visits "
            "BEGIN SELECT RAISE(ABORT, 'visits are append-only'); END"
        ).execute_if(dialect="sqlite"),
    )


@dataclass(frozen=True, slots=True)
class Session:
    """Under which lease of a board, and since which of its starts, visits were made.

    Attributes:
        number: The store's, from `BoardRecords.begin_session`; 0 where it does not know of it.
        generation: Grows each time that the board's lease is taken; 0 without a lease.
        boot_id: Changes when the board starts anew; "" where the board does not tell.
    """

    number: int = 0
    generation: int = 0
    boot_id: str = ""

    def __post_init__(self) -> None:
        if self.number < 0 or self.generation < 0:
            raise ValueError(
                f"number and generation must be >= 0, got {self.number} and {self.generation}"
            )


#: Of visits that were made outside of any session.
NO_SESSION: Final = Session()


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit to a workload on a device: the unit of measurement.

    Attributes:
        device_id: `Fingerprint.device_id`; registered before visits to it are appended.
        subject_kind: Whether one operator or a whole network was timed.
        subject: The operator's key or the network's name.
        kernel: Hash name of the kernel; for a network the digest of its program.
        schedule: Text of the kernel's schedule; "" for a network.
        purpose: Why the visit was made.
        round_index: Which round of the purpose it belongs to, from 0.
        plan: How it was timed.
        outcome: Raw samples, or why there are none.
        flags: Doubts about the quality, such as `canary_moved`.
        operators: A network's operator keys in call order; () for an operator.
        created: UTC time in ISO 8601; "" until the store stamps it.
        session: Under which lease it was made.
    """

    device_id: str
    subject_kind: SubjectKind
    subject: str
    kernel: str
    schedule: str
    purpose: Purpose
    round_index: int
    plan: TimingPlan
    outcome: Timing | Failure
    flags: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    created: str = ""
    session: Session = NO_SESSION

    def __post_init__(self) -> None:
        if self.subject_kind not in get_args(SubjectKind):
            raise ValueError(f"subject_kind must be operator or network, got {self.subject_kind!r}")
        if self.purpose not in PURPOSES:
            raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {self.purpose!r}")
        if self.round_index < 0:
            raise ValueError(f"round_index must be >= 0, got {self.round_index}")
        if (self.subject_kind == "network") != bool(self.operators):
            raise ValueError(
                f"operators must be given for a network and only then, "
                f"got {len(self.operators)} for {self.subject_kind} {self.subject!r}"
            )
        if isinstance(self.outcome, Timing):
            _check_timing(self.outcome, len(self.operators))


def _check_timing(timing: Timing, n_operators: int) -> None:
    if timing.n_repeats < 1 or not timing.block_ns or min(timing.block_ns) <= 0:
        raise ValueError(
            f"a timing needs n_repeats >= 1 and blocks above 0 ns, "
            f"got n_repeats {timing.n_repeats}, block_ns {timing.block_ns}"
        )
    shape = None if timing.call_ns is None else timing.call_ns.shape
    if shape is not None and (
        len(shape) != 2 or 0 in shape or (n_operators and shape[1] != n_operators)
    ):
        raise ValueError(
            f"call_ns must have shape (n_timestamped, n_calls) without zeros and with a column "
            f"for each of the network's operators ({n_operators}), got {shape}"
        )


def network_digest(name: str, operators: Sequence[str]) -> str:
    """Name a network and its operators in call order by their content."""
    text = json.dumps([name, *operators], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def pack_call_ns(call_ns: NDArray[np.int64]) -> bytes:
    """Pack an int64 array as zlib-compressed little-endian bytes, C order."""
    return zlib.compress(np.ascontiguousarray(call_ns, dtype="<i8").tobytes(), 3)


def unpack_call_ns(packed: bytes, n_calls: int) -> NDArray[np.int64]:
    """Read back `pack_call_ns`, shape (n_timestamped, n_calls)."""
    flat = np.frombuffer(zlib.decompress(packed), dtype="<i8")
    return flat.astype(np.int64).reshape(-1, n_calls)


def visit_to_row(visit: Visit, created: str) -> dict[str, object]:
    """Turn a visit into column values; every visit has the same columns."""
    row: dict[str, object] = {
        "device_id": visit.device_id,
        "subject_kind": visit.subject_kind,
        "subject": visit.subject,
        "network_digest": None,
        "kernel": visit.kernel,
        "schedule": visit.schedule,
        "purpose": visit.purpose,
        "round_index": visit.round_index,
        "plan": asdict(visit.plan),
        "flags": list(visit.flags),
        "created": visit.created or created,
        "session": visit.session.number,
        "generation": visit.session.generation,
        "boot_id": visit.session.boot_id,
    }
    if visit.operators:
        row["network_digest"] = network_digest(visit.subject, visit.operators)
    return row | _outcome_to_row(visit.outcome)


def _outcome_to_row(outcome: Timing | Failure) -> dict[str, object]:
    timing = outcome if isinstance(outcome, Timing) else None
    failure = outcome if isinstance(outcome, Failure) else None
    call_ns = timing.call_ns if timing else None
    return {
        "n_repeats": timing.n_repeats if timing else None,
        "block_ns": list(timing.block_ns) if timing else None,
        "call_ns": None if call_ns is None else pack_call_ns(call_ns),
        "n_calls": None if call_ns is None else call_ns.shape[1],
        "tick_ns": timing.tick_ns if timing else None,
        "n_preemptions": timing.n_preemptions if timing else None,
        "before": asdict(timing.before) if timing else None,
        "after": asdict(timing.after) if timing else None,
        "failure_reason": failure.reason if failure else None,
        "failure_detail": failure.detail if failure else None,
    }


def row_to_visit(row: Row[Any], operators: tuple[str, ...]) -> Visit:
    """Read a visit back from a row of `visits`; `operators` come from `networks`."""
    outcome: Timing | Failure
    if row.failure_reason is not None:
        outcome = Failure(row.failure_reason, row.failure_detail)
    else:
        outcome = Timing(
            n_repeats=row.n_repeats,
            block_ns=tuple(row.block_ns),
            call_ns=None if row.call_ns is None else unpack_call_ns(row.call_ns, row.n_calls),
            tick_ns=row.tick_ns,
            n_preemptions=row.n_preemptions,
            before=Conditions(**row.before),
            after=Conditions(**row.after),
        )
    return Visit(
        device_id=row.device_id,
        subject_kind=row.subject_kind,
        subject=row.subject,
        kernel=row.kernel,
        schedule=row.schedule,
        purpose=row.purpose,
        round_index=row.round_index,
        plan=TimingPlan(**row.plan),
        outcome=outcome,
        flags=tuple(row.flags),
        operators=operators,
        created=row.created,
        session=Session(row.session, row.generation, row.boot_id),
    )


def row_to_fingerprint(row: Row[Any]) -> Fingerprint:
    """Read a device back from a row of `devices`."""
    board = row.board | {"cpu_features": tuple(row.board["cpu_features"])}
    versions = tuple((name, version) for name, version in row.runtime["versions"])
    return Fingerprint(Board(**board), Runtime(**(row.runtime | {"versions": versions})))
