"""How fast a board was at a moment, beside how fast it usually is, as its canaries tell.

A shared machine changes speed by 10-20 % for seconds. The canary's mean over a few seconds follows
that with a slope of one (seen on a 2-core virtual machine: slope 0.9-1.05 for windows of 2-20 s,
0.5 for a single canary, which is mostly noise), so that two visits of different moments become
comparable when each is divided by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

#: Canaries this close in time, before and after, tell a moment's speed.
WINDOW_S: Final = 4.0
#: Fewer canaries than this tell nothing.
MIN_CANARIES: Final = 4


@dataclass(frozen=True, slots=True)
class BoardState:
    """Canaries of one device over time.

    Attributes:
        times_s: Ascending, shape (n_canaries,).
        sums: Cumulative sums of the logarithms of latency over the usual one, with a leading 0,
            shape (n_canaries + 1,).
    """

    times_s: NDArray[np.float64]
    sums: NDArray[np.float64]

    @classmethod
    def from_canaries(cls, times_s: Sequence[float], latency_us: Sequence[float]) -> Self:
        """Take the median of all canaries for the usual speed."""
        order = np.argsort(np.asarray(times_s, dtype=np.float64), kind="stable")
        times = np.asarray(times_s, dtype=np.float64)[order]
        logs = np.log(np.asarray(latency_us, dtype=np.float64)[order])
        if len(logs):
            logs = logs - np.median(logs)
        return cls(times, np.concatenate([[0.0], np.cumsum(logs)]))

    def slowdown(self, time_s: float) -> float:
        """How many times slower than usual the board was; 1 where too few canaries tell."""
        first = int(np.searchsorted(self.times_s, time_s - WINDOW_S))
        last = int(np.searchsorted(self.times_s, time_s + WINDOW_S))
        if last - first < MIN_CANARIES:
            return 1.0
        return float(np.exp((self.sums[last] - self.sums[first]) / (last - first)))
