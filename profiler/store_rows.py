"""Rows of `visits` reduced to what statistics need, and the queries that fetch just that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, select

from profiler.statistics import UNUSABLE_FLAGS, VisitMedian, visit_median_us
from profiler.store_schema import Purpose, SubjectKind, unpack_call_ns, visits

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
    ).where(_VISITS.device_id == device_id, _VISITS.subject_kind == subject_kind, counts)


def read_median(row: Row[Any], operators: tuple[str, ...]) -> VisitMedian:
    """One row of `select_medians`, reduced to its median."""
    is_timed = row.block_ns is not None
    return VisitMedian(
        subject=row.subject,
        schedule=row.schedule,
        kernel=row.kernel,
        median_us=visit_median_us(row.block_ns, row.n_repeats) if is_timed else None,
        is_flagged=not UNUSABLE_FLAGS.isdisjoint(row.flags),
        operators=operators,
    )


def select_in_place(device_id: str, purposes: Collection[Purpose]) -> Select[Any]:
    """Visits to networks that have samples between calls."""
    return select(
        _VISITS.id, _VISITS.network_digest, _VISITS.call_ns, _VISITS.n_calls, _VISITS.flags
    ).where(
        _VISITS.device_id == device_id,
        _VISITS.subject_kind == "network",
        _VISITS.purpose.in_(purposes),
        _VISITS.call_ns.is_not(None),
    )


def add_in_place(samples: InPlace, row: Row[Any], operators: Sequence[str]) -> None:
    """Add one row of `select_in_place`: a sample for each operator that the network holds.

    A repetition's sample is the mean over the calls of that operator in it.
    """
    call_ns = unpack_call_ns(row.call_ns, row.n_calls)
    is_flagged = not UNUSABLE_FLAGS.isdisjoint(row.flags)
    positions: dict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(operators):
        positions[key].append(position)
    for key, columns in positions.items():
        median_ns = float(np.median(call_ns[:, columns].mean(axis=1)))
        samples[key].append((median_ns / 1000.0, is_flagged))
