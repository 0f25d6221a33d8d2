"""What raw visits say: medians, their intervals, and one latency for each operator and network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeVar

from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.operator import parse_key
from profiler.schedules.schedule import parse_schedule

#: Flags of visits that are left out where enough others remain.
UNUSABLE_FLAGS: Final = frozenset(
    {
        "canary_moved",
        "stolen",
        "throttled",
        "hot",
        "clock_changed",
        "governor_changed",
        "preempted",
        "busy",
    }
)
#: So many visits without such a flag must remain before flagged ones are left out.
MIN_USABLE_VISITS: Final = 3

_Sample = TypeVar("_Sample")
# Rounding in the sum of binomial terms; far below any confidence that is asked for.
_TOLERANCE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """An interval that holds the median, with the confidence that the samples allow."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class MedianBound:
    """A value that the median does not exceed, with the confidence that the samples allow."""

    value: float
    confidence: float


@dataclass(frozen=True, slots=True)
class VisitMedian:
    """One visit reduced to its median.

    Attributes:
        subject: Operator key or network name.
        schedule, kernel: What was timed.
        median_us: Median over the visit's blocks of a repetition's latency; None for a failure.
        is_flagged: Whether it carries one of `UNUSABLE_FLAGS`.
        operators: A network's operator keys in call order.
        time_s: When it was made, in seconds; see `profiler.timeline`.
    """

    subject: str
    schedule: str
    kernel: str
    median_us: float | None
    is_flagged: bool
    operators: tuple[str, ...] = ()
    time_s: float = 0.0


def order_statistic_interval(samples: Sequence[float], confidence: float) -> MedianInterval:
    """Give the distribution-free confidence interval of the median from order statistics.

    The narrowest symmetric pair [x(r), x(n+1-r)] whose coverage reaches `confidence`; with too
    few samples the whole range, with the confidence that it does reach. Ties and discrete
    clocks only raise the coverage.

    Source: David & Nagaraja, Order Statistics, 3rd ed., section 7.1; Conover, Practical
    Nonparametric Statistics, 3rd ed., section 3.2.

    Raises:
        ValueError: no samples, or a confidence outside (0, 1).
    """
    ordered = _sorted_finite(samples, confidence)
    n = len(ordered)
    # P(x(r) <= median <= x(n+1-r)) = 1 - 2 P(B <= r-1), B ~ Binomial(n, 1/2)
    tail, rank, reached = 0.0, 1, 0.0
    for r in range(1, (n + 1) // 2 + 1):
        tail += _binomial_half(n, r - 1)
        coverage = max(0.0, 1.0 - 2.0 * tail)
        if r > 1 and coverage < confidence - _TOLERANCE:
            break
        rank, reached = r, coverage
    return MedianInterval(ordered[rank - 1], ordered[n - rank], reached)


def upper_bound_of_median(samples: Sequence[float], confidence: float) -> MedianBound:
    """Give the distribution-free one-sided upper confidence bound of the median.

    The smallest order statistic x(s) with P(median <= x(s)) >= `confidence`; with too few
    samples the largest, with the confidence that it does reach (n = 3: 0.875, n = 5: 0.969).

    Source: as `order_statistic_interval`.

    Raises:
        ValueError: no samples, or a confidence outside (0, 1).
    """
    ordered = _sorted_finite(samples, confidence)
    n = len(ordered)
    reached = 0.0
    for s in range(1, n + 1):
        reached += _binomial_half(n, s - 1)  # P(median <= x(s)) = P(B <= s-1)
        if reached >= confidence - _TOLERANCE:
            return MedianBound(ordered[s - 1], min(reached, 1.0))
    return MedianBound(ordered[-1], reached)


def _sorted_finite(samples: Sequence[float], confidence: float) -> list[float]:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if len(samples) == 0 or not all(map(math.isfinite, samples)):
        raise ValueError(f"samples must be finite and at least one, got {list(samples)[:5]}")
    return sorted(map(float, samples))


def _binomial_half(n: int, k: int) -> float:
    """P(B = k) for B ~ Binomial(n, 1/2)."""
    if n <= 1000:
        return math.comb(n, k) / (1 << n)
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_ways - n * math.log(2.0))


def visit_median_us(block_ns: Sequence[int], n_repeats: int) -> float:
    """Median over a visit's blocks of one repetition's latency, in microseconds."""
    return median(block_ns) / n_repeats / 1000.0


def leave_out_flagged(samples: Iterable[tuple[_Sample, bool]]) -> list[_Sample]:
    """Keep the values without a flag if at least `MIN_USABLE_VISITS` remain, else all."""
    pairs = list(samples)
    usable = [value for value, is_flagged in pairs if not is_flagged]
    return usable if len(usable) >= MIN_USABLE_VISITS else [value for value, _ in pairs]


def summarize_operators(
    visits: Iterable[VisitMedian], in_place: Mapping[str, Sequence[tuple[float, bool]]]
) -> tuple[OperatorLatency, ...]:
    """Reduce visits to one latency for each operator: that of the fastest sound kernel.

    A kernel that failed in any visit is not kept; an operator without a sound kernel is left
    out. Ties go to the schedule whose text sorts first.

    Args:
        visits: Visits to operators.
        in_place: For each operator key, (median in us, is flagged) of each visit to a network
            that holds it.

    Returns:
        In order of the operators' keys.
    """
    kernels = _group_by_kernel(visits)
    latencies = []
    for key in sorted(kernels):
        sound = _sound_kernels(kernels[key])
        if not sound:
            continue
        alone_us, schedule, _, medians_us = min(sound)
        around = leave_out_flagged(in_place.get(key, ()))
        latencies.append(
            OperatorLatency(
                operator=parse_key(key),
                schedule=parse_schedule(schedule),
                alone_us=alone_us,
                in_place_us=median(around) if around else None,
                relative_spread=_relative_spread(medians_us),
            )
        )
    return tuple(latencies)


def summarize_candidates(visits: Iterable[VisitMedian]) -> tuple[OperatorLatency, ...]:
    """Reduce visits to one latency for each schedule of each operator that never failed.

    Of several kernels that were made of one schedule the fastest counts. Nothing is known of them
    inside of networks.

    Returns:
        In order of the operators' keys, then of the schedules' texts.
    """
    latencies = []
    for key, kernels in sorted(_group_by_kernel(visits).items()):
        fastest: dict[str, tuple[float, str, str, list[float]]] = {}
        for found in sorted(_sound_kernels(kernels)):
            fastest.setdefault(found[1], found)
        latencies += [
            OperatorLatency(
                parse_key(key), parse_schedule(text), alone_us, None, _relative_spread(medians_us)
            )
            for text, (alone_us, _, _, medians_us) in sorted(fastest.items())
        ]
    return tuple(latencies)


def _group_by_kernel(
    visits: Iterable[VisitMedian],
) -> dict[str, dict[tuple[str, str], list[VisitMedian]]]:
    kernels: dict[str, dict[tuple[str, str], list[VisitMedian]]] = defaultdict(dict)
    for visit in visits:
        kernels[visit.subject].setdefault((visit.schedule, visit.kernel), []).append(visit)
    return kernels


def _sound_kernels(
    kernels: Mapping[tuple[str, str], Sequence[VisitMedian]],
) -> list[tuple[float, str, str, list[float]]]:
    """Latency in us, schedule, name and visits' medians of each kernel that never failed."""
    sound: list[tuple[float, str, str, list[float]]] = []
    for (schedule, kernel), visits in kernels.items():
        timed = [(v.median_us, v.is_flagged) for v in visits if v.median_us is not None]
        if len(timed) == len(visits):
            medians_us = leave_out_flagged(timed)
            sound.append((median(medians_us), schedule, kernel, medians_us))
    return sound


def _relative_spread(medians_us: Sequence[float]) -> float:
    return (max(medians_us) - min(medians_us)) / 2.0 / median(medians_us)


def summarize_networks(visits: Iterable[VisitMedian]) -> tuple[NetworkLatency, ...]:
    """Reduce visits to one latency for each network, one session a visit.

    A network whose program changed (other schedules, another compiler) is described by the
    program that was timed last.

    Args:
        visits: Visits to networks, oldest first.

    Returns:
        In order of first appearance; networks that never finished are left out.
    """
    programs: dict[str, dict[tuple[str, tuple[str, ...]], list[VisitMedian]]] = {}
    for visit in visits:
        if visit.median_us is not None:
            by_program = programs.setdefault(visit.subject, {})
            program = (visit.kernel, visit.operators)
            by_program[program] = [*by_program.pop(program, []), visit]  # the last timed last
    latencies = []
    for name, by_program in programs.items():
        (_, keys), timed = list(by_program.items())[-1]
        sessions = leave_out_flagged(
            ((v.median_us, v.time_s), v.is_flagged) for v in timed if v.median_us is not None
        )
        session_us, session_s = zip(*sessions, strict=True)
        operators = tuple(map(parse_key, keys))
        latencies.append(NetworkLatency(name, operators, median(session_us), session_us, session_s))
    return tuple(latencies)
