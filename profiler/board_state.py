"""How fast a board was at a moment, beside how fast it usually is, as its canaries tell.

A shared machine changes speed by 10-20 % for seconds. There the canary's mean over a few seconds
follows the networks' latency (seen on a restless 2-core virtual machine: slope 0.9-1.05 for windows
of 2-20 s, 0.5 for a single canary, which is mostly noise), so that two visits of different moments
become comparable when each is divided by it. On a quiet machine the same mean is noise, or moves
for reasons of its own (slope 0.0-0.2 seen), and dividing by it harms. So the device's own visits
say how much of the canary's movement they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from profiler.timeline import AS_STAMPED, Timeline

#: Canaries this close in time, before and after, tell a moment's speed.
WINDOW_S: Final = 4.0
#: Fewer canaries than this tell nothing.
MIN_CANARIES: Final = 4
#: Networks of arithmetic alone move more than a canary that also waits for memory.
MOST_SHARE: Final = 1.5
#: Fewer visits to networks do not tell whether they follow the canaries.
MIN_VISITS: Final = 60


@dataclass(frozen=True, slots=True)
class BoardState:
    """Canaries of one device over time.

    Attributes:
        times_s: Ascending, shape (n_canaries,).
        sums: Cumulative sums of the logarithms of latency over the usual one, with a leading 0,
            shape (n_canaries + 1,).
        share: How much of the canaries' movement, in logarithms, whole networks take part in.
        usual: Logarithm of the usual latency over the median of all canaries.
        timeline: Turns rows' time stamps into the times that all else here is in.
    """

    times_s: NDArray[np.float64]
    sums: NDArray[np.float64]
    share: float = 1.0
    usual: float = 0.0
    timeline: Timeline = AS_STAMPED

    @classmethod
    def from_canaries(
        cls,
        times_s: Sequence[float],
        latency_us: Sequence[float],
        timeline: Timeline = AS_STAMPED,
    ) -> Self:
        """Take the median of all canaries for the usual speed."""
        order = np.argsort(np.asarray(times_s, dtype=np.float64), kind="stable")
        times = np.asarray(times_s, dtype=np.float64)[order]
        logs = np.log(np.asarray(latency_us, dtype=np.float64)[order])
        if len(logs):
            logs = logs - np.median(logs)
        return cls(times, np.concatenate([[0.0], np.cumsum(logs)]), timeline=timeline)

    def slowdown(self, time_s: float) -> float:
        """How many times slower than usual the board was; 1 where too few canaries tell."""
        return float(np.exp(self.share * self._log_canary(time_s)))

    def followed_by(self, visits: Iterable[tuple[str, float, float]]) -> BoardState:
        """The same canaries with the share of their movement that a device's networks show.

        The share is the slope of the visits' logarithms over the canaries', each against its
        network's own mean; 0 (canaries are not heeded) where fewer than `MIN_VISITS` tell. Usual
        is the board's speed at the median visit: canaries of other times do not move what the
        visits are compared with.

        Args:
            visits: (network, POSIX time, latency) of visits, in any order.
        """
        rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for name, time_s, latency_us in visits:
            rows[name].append((self._log_canary(time_s), float(np.log(latency_us))))
        centred = [np.array(pairs) - np.mean(pairs, axis=0) for pairs in rows.values()]
        x, y = np.concatenate([np.zeros((0, 2)), *centred]).T
        moved = float(x @ x)
        if len(x) < MIN_VISITS or moved == 0.0:
            return replace(self, share=0.0)
        usual = self.usual + float(np.median([log for pairs in rows.values() for log, _ in pairs]))
        return replace(self, share=min(max(float(x @ y) / moved, 0.0), MOST_SHARE), usual=usual)

    def _log_canary(self, time_s: float) -> float:
        """Mean of the canaries around a moment over the usual one; 0 where too few tell."""
        if len(self.times_s) < MIN_CANARIES:
            return 0.0
        first = int(np.searchsorted(self.times_s, time_s - WINDOW_S))
        last = int(np.searchsorted(self.times_s, time_s + WINDOW_S))
        if last - first < MIN_CANARIES:
            return 0.0
        return float(self.sums[last] - self.sums[first]) / (last - first) - self.usual


#: A board of which no canary is known.
UNHEARD: Final = BoardState.from_canaries((), ())
