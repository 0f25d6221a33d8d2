"""How much faster or slower a device is than while its model learned: the same networks, twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiler.measurement import NetworkLatency
from profiler.statistics import order_statistic_interval

_CONFIDENCE: Final = 0.95
#: Less is no reason to measure anything again.
_LEAST_PERCENT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Shift:
    """How much longer known networks of one family take now than then.

    Attributes:
        n_networks: Networks measured both times.
        median_percent: Median of now over then, less 1, in percent; negative where they are faster.
        low_percent, high_percent: Interval of that median from order statistics; its confidence is
            95 % from six networks on, and lower for fewer.
    """

    n_networks: int
    median_percent: float
    low_percent: float
    high_percent: float

    @property
    def is_notable(self) -> bool:
        """Whether the device is surely not as it was, and by more than is usual."""
        is_sure = self.low_percent > 0 or self.high_percent < 0
        return is_sure and abs(self.median_percent) >= _LEAST_PERCENT


def find_shifts(
    then: Sequence[NetworkLatency], now: Sequence[NetworkLatency]
) -> tuple[tuple[str, Shift], ...]:
    """Compare networks with what they took before: (family, shift) pairs.

    Args:
        then: Whole networks that a model learned from.
        now: Networks measured later; those that are not in `then` are left out.
    """
    then_us = {row.name: row.latency_us for row in then}
    percents: dict[str, list[float]] = {}
    for row in now:
        if row.name in then_us:
            percent = 100 * (row.latency_us / then_us[row.name] - 1)
            percents.setdefault(row.family, []).append(percent)
    return tuple((family, _summarize(found)) for family, found in sorted(percents.items()))


def _summarize(percents: Sequence[float]) -> Shift:
    interval = order_statistic_interval(percents, _CONFIDENCE)
    return Shift(len(percents), float(np.median(percents)), interval.low, interval.high)
