"""Rows of `visits` reduced to what statistics need, and the queries that fetch just that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, select

from profiler.board_state import BoardState
from profiler.statistics import UNUSABLE_FLAGS, VisitMedian, visit_median_us
from profiler.store_schema import Purpose, SubjectKind, unpack_call_ns, visits
from profiler.timeline import Timeline

_VISITS: Final = visits.c

#: For each operator key, (median in microseconds, is flagged) of each visit to a network with it.
InPlace = defaultdict[str, list[tuple[float, bool]]]


def select_medians(
    device_id: str, subject_kind: SubjectKind, counts: ColumnElement[bool]
) -> Select[Any]:
    """Visits without the samples between calls, which are most of the bytes."""
    return select(
        _VISITS.id,
        _VISITS.subject,
        _VISITS.schedule,
        _VISITS.kernel,
        _VISITS.network_digest,
        _VISITS.n_repeats,
        _VISITS.block_ns,
        _VISITS.flags,
        _VISITS.created,
    ).where(_VISITS.device_id == device_id, _VISITS.subject_kind == subject_kind, counts)


def select_canaries(device_id: str) -> Select[Any]:
    """Canaries that did not fail."""
    return select(_VISITS.id, _VISITS.created, _VISITS.n_repeats, _VISITS.block_ns).where(
        _VISITS.device_id == device_id,
        _VISITS.purpose == "canary",
        _VISITS.block_ns.is_not(None),
    )


def read_state(rows: Iterable[Row[Any]]) -> BoardState:
    """Rows of `select_canaries`, by ascending id, as the board's speed over time."""
    found = [(row.id, _stamp_s(row), visit_median_us(row.block_ns, row.n_repeats)) for row in rows]
    timeline = Timeline.from_stamps([row_id for row_id, _, _ in found], [at for _, at, _ in found])
    return BoardState.from_canaries(
        list(map(float, timeline.moments_s)), [us for _, _, us in found], timeline
    )


def _stamp_s(row: Row[Any]) -> float:
    return datetime.fromisoformat(row.created).timestamp()


def _time_s(row: Row[Any], state: BoardState) -> float:
    return state.timeline.moment_s(row.id, _stamp_s(row))


def read_median(row: Row[Any], operators: tuple[str, ...], state: BoardState) -> VisitMedian:
    """One row of `select_medians`, reduced to its median at the board's usual speed."""
    median_us = None
    time_s = _time_s(row, state)
    if row.block_ns is not None:
        median_us = visit_median_us(row.block_ns, row.n_repeats) / state.slowdown(time_s)
    return VisitMedian(
        subject=row.subject,
        schedule=row.schedule,
        kernel=row.kernel,
        median_us=median_us,
        is_flagged=not UNUSABLE_FLAGS.isdisjoint(row.flags),
        operators=operators,
        time_s=time_s,
    )


def select_in_place(device_id: str, purposes: Collection[Purpose]) -> Select[Any]:
    """Visits to networks that have samples between calls."""
    return select(
        _VISITS.id,
        _VISITS.network_digest,
        _VISITS.call_ns,
        _VISITS.n_calls,
        _VISITS.flags,
        _VISITS.created,
    ).where(
        _VISITS.device_id == device_id,
        _VISITS.subject_kind == "network",
        _VISITS.purpose.in_(purposes),
        _VISITS.call_ns.is_not(None),
    )


def add_in_place(
    samples: InPlace, row: Row[Any], operators: Sequence[str], state: BoardState
) -> None:
    """Add one row of `select_in_place`: a sample for each operator that the network holds.

    A repetition's sample is the mean over the calls of that operator in it, at the board's usual
    speed.
    """
    slowdown = state.slowdown(_time_s(row, state))
    call_ns = unpack_call_ns(row.call_ns, row.n_calls)
    is_flagged = not UNUSABLE_FLAGS.isdisjoint(row.flags)
    positions: dict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(operators):
        positions[key].append(position)
    for key, columns in positions.items():
        median_ns = float(np.median(call_ns[:, columns].mean(axis=1)))
        samples[key].append((median_ns / slowdown / 1000.0, is_flagged))
