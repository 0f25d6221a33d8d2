"""Sums, maxima and functions along rows: so many vectors of a row are done at once."""

from __future__ import annotations

from typing import Final

from profiler.generic import LoopForm
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import whole_lanes
from profiler.target import Target

RULE: Final = "rowwise"
_VECTORS = (4, 1)


def candidates(form: LoopForm, target: Target) -> tuple[Schedule, ...]:
    """Several vectors, whose sums are under way together, or one after the other."""
    lanes = whole_lanes(form.n_columns, target.lanes)
    sizes = dict.fromkeys(min(n, form.n_columns // lanes) for n in _VECTORS)
    return tuple(Schedule(RULE, (("vectors", n), ("lanes", lanes))) for n in sizes)
