from __future__ import annotations

import numpy as np
import pytest

from costmodel.drift import WINDOW_S, estimate_drift
from profiler.measurement import NetworkLatency
from profiler.operator import Operator

OPERATOR = Operator("conv2d", (1, 8, 8, 8), 8)


def _visit(drift: float, noise: float, seed: int, n_rounds: int = 9) -> list[NetworkLatency]:
    """Sixty networks, each visited once in every round; a round lies in a window of its own."""
    rng = np.random.default_rng(seed)
    speed = drift * rng.normal(size=n_rounds)
    at_s = tuple(WINDOW_S * (np.arange(n_rounds) + 0.5))
    rows = []
    for index in range(60):
        session_us = (100.0 + index) * np.exp(speed + noise * rng.normal(size=n_rounds))
        latency_us = float(np.median(session_us))
        rows.append(NetworkLatency(f"n:{index}", (OPERATOR,), latency_us, tuple(session_us), at_s))
    return rows


@pytest.mark.parametrize("drift", [0.01, 0.05])
def test_a_board_that_moves_between_rounds_is_seen_to(drift: float):
    found = [estimate_drift(_visit(drift, 0.02, seed)) ** 2 for seed in range(60)]
    # The drift itself, and the error of a mean over nine windows.
    assert np.sqrt(np.mean(found)) == pytest.approx(drift * np.sqrt(1 + 1 / 9), rel=0.15)


def test_noise_of_single_sessions_is_no_drift():
    found = [estimate_drift(_visit(0.0, 0.05, seed)) for seed in range(20)]
    assert np.mean(found) < 0.05 / np.sqrt(60)  # what the mean of one round is uncertain by


def test_one_window_tells_nothing():
    assert estimate_drift(_visit(0.05, 0.01, 0, n_rounds=1)) == 0
    assert estimate_drift([]) == 0
    untimed = [NetworkLatency(r.name, r.operators, r.latency_us, r.session_us)
               for r in _visit(0.05, 0.01, 0)]  # fmt: skip
    assert estimate_drift(untimed) == 0
