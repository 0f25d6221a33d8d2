"""Sums over an image and element-wise operators: one pass over memory, whole vectors at a time."""

from __future__ import annotations

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_size, fitting_lanes
from profiler.target import Target

MEAN_RULE = "mean"
ONCE_RULE = "once"


def mean_candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Blocks of channels that are summed over all pixels in registers."""
    most = target.n_vector_registers - 2
    return _blocks(MEAN_RULE, operator, target, [n for n in (8, 4, 2) if n <= most])


def once_candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Runs of channels that are done at once."""
    return _blocks(ONCE_RULE, operator, target, [4, 1])


def _blocks(
    rule: str, operator: Operator, target: Target, vectors: list[int]
) -> tuple[Schedule, ...]:
    lanes = fitting_lanes(operator.out_channels, target.lanes)
    n_vectors = max(1, operator.out_channels // lanes)
    sizes = dict.fromkeys(even_size(n_vectors, most) for most in vectors)
    return tuple(Schedule(rule, (("vectors", n), ("lanes", lanes))) for n in sizes)
