"""How much a board's speed moves from one while to the next, after its canaries' correction.

Networks left out of a fit were measured in the same minutes as those inside it, so that their
errors say nothing of another day. What moves all networks together from one while to the next
does: it is what a prediction owes to the moment of its proof.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from profiler.measurement import NetworkLatency

#: Sessions of one window were made at one speed of the board.
WINDOW_S: Final = 10.0
_LEAST_SESSIONS: Final = 3


def estimate_drift(networks: Sequence[NetworkLatency]) -> float:
    """Relative standard deviation between a profile's usual speed and that of another while.

    The variance between windows of time beside that inside them, in a one-way random model
    with unequal groups (Searle, Casella and McCulloch 1992, section 3.6), of each session's
    logarithm against its network's own mean. A mean of r sessions takes part in the drift, so
    the variance grows by r / (r - 1); the profile's mean over n windows adds another 1 / n.

    Returns:
        A share of the latency; 0 where fewer than two windows tell.
    """
    windows: dict[int, list[float]] = defaultdict(list)
    n_sessions = []
    for row in networks:
        if len(row.session_s) < _LEAST_SESSIONS:
            continue
        logs = np.log(row.session_us)
        n_sessions.append(len(logs))
        for at_s, log in zip(row.session_s, logs - logs.mean(), strict=True):
            windows[math.floor(at_s / WINDOW_S)].append(float(log))
    groups = [np.array(values) for values in windows.values()]
    sizes = np.array([len(values) for values in groups])
    n_groups, total = len(groups), int(sizes.sum())
    if n_groups < 2 or total <= n_groups:
        return 0.0
    means = np.array([values.mean() for values in groups])
    grand = float(sizes @ means) / total
    between = float(sizes @ (means - grand) ** 2) / (n_groups - 1)
    within = sum(float(np.sum((v - v.mean()) ** 2)) for v in groups) / (total - n_groups)
    typical_size = (total - float(sizes @ sizes) / total) / (n_groups - 1)
    variance = max(between - within, 0.0) / typical_size
    r = float(np.mean(n_sessions))
    return math.sqrt(variance * r / (r - 1) * (1 + 1 / n_groups))
