"""How kernels fared that were in flight when their board went down, and which are condemned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, select

from profiler.store_schema import Visit, visits

#: (subject, schedule, kernel): what is visited.
KernelName = tuple[str, str, str]

#: Marks a visit that was asked for, behind others, when the board went down: it hardly ran yet.
BEHIND_FLAG: Final = "behind_others"
#: Losses in a row that condemn what ran: where it never ran well on the device, and where it did.
N_LOSSES: Final = 2
N_LOSSES_OF_SOUND: Final = 3
_VISITS: Final = visits.c


@dataclass(frozen=True, slots=True)
class Event:
    """One visit in the history of a kernel that was in flight when its board went down."""

    is_lost: bool
    is_running: bool


def read_histories(connection: Connection, device_id: str) -> dict[KernelName, list[Event]]:
    """Visits, oldest first, of everything that was ever in flight when the board went down."""
    columns = (
        _VISITS.id, _VISITS.subject, _VISITS.schedule, _VISITS.kernel, _VISITS.flags,
        _VISITS.failure_reason,
    )  # fmt: skip
    query = select(*columns).where(_VISITS.device_id == device_id).order_by(_VISITS.id)
    lost = connection.execute(query.where(_VISITS.failure_reason == "board_lost")).all()
    if not lost:
        return {}
    subjects = {row.subject for row in lost}
    sound = connection.execute(
        query.where(_VISITS.block_ns.is_not(None), _VISITS.subject.in_(subjects))
    ).all()
    histories: dict[KernelName, list[Event]] = defaultdict(list)
    names = {(row.subject, row.schedule, row.kernel) for row in lost}
    for row in sorted([*lost, *sound], key=lambda row: row.id):
        name = (row.subject, row.schedule, row.kernel)
        if name in names:
            is_lost = row.failure_reason is not None
            histories[name].append(Event(is_lost, BEHIND_FLAG not in row.flags))
    return histories


def in_flight(visit: Visit, *, is_running: bool) -> Visit:
    """A visit with a flight's flags: it runs, or it was asked for behind another one."""
    return replace(visit, flags=() if is_running else (BEHIND_FLAG,))


def is_condemned(events: Sequence[Event]) -> bool:
    """Whether one visit after the other took the board down, as often as it takes."""
    has_run_well, n_losses = False, 0
    for event in events:
        if not event.is_lost:
            has_run_well, n_losses = True, 0
        elif event.is_running:
            n_losses += 1
        if n_losses >= (N_LOSSES_OF_SOUND if has_run_well else N_LOSSES):
            return True
    return False
