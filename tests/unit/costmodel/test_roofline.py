from __future__ import annotations

import numpy as np
import pytest
from simulated import conv, depthwise, mobile_network

from costmodel.errors import TooFewMeasurementsError
from costmodel.features import total_bytes
from costmodel.roofline import Roofline, fit_rates, fit_roofline


def distinct_operators() -> list:
    return list(dict.fromkeys(mobile_network(np.random.default_rng(1))))


def test_fit_recovers_peak_bandwidth_and_overhead():
    operators = distinct_operators()
    exact = np.array([0.5 + max(op.n_flops / 80e3, total_bytes(op) / 20e3) for op in operators])
    found = fit_roofline(operators, exact)
    assert found.peak_gflops == pytest.approx(80, rel=0.02)
    assert found.bandwidth_gbps == pytest.approx(20, rel=0.02)
    assert found.overhead_us == pytest.approx(0.5, rel=0.1)


def test_roofline_is_overhead_plus_the_slower_of_compute_and_memory():
    operator = conv(28, 32, 64)
    compute_us = 2 * 28 * 28 * 32 * 64 / 50e3
    assert Roofline(50, 1000, 2).roofline_us([operator])[0] == pytest.approx(2 + compute_us)
    memory_us = total_bytes(operator) / 1e3
    assert Roofline(5000, 1, 2).roofline_us([operator])[0] == pytest.approx(2 + memory_us)


def test_rates_of_many_samples_are_those_of_the_kind_and_of_one_sample_near_the_roofline():
    operators = [depthwise(14, c, k, 1, "relu") for c in (16, 64, 160, 480) for k in (3, 5, 7)]
    true = np.array([0.4 + op.n_flops / 30e3 + total_bytes(op) / 40e3 for op in operators])
    roofline = Roofline(100, 20, 0.2)
    np.testing.assert_allclose(
        fit_rates(operators, true, roofline).log_us(operators), np.log(true), atol=0.05
    )
    alone = fit_rates(operators[:1], true[:1], roofline)
    assert alone.log_us(operators[:1])[0] == pytest.approx(np.log(true[0]), abs=0.2)


def test_no_operator_is_refused_and_so_is_a_roofline_without_rates():
    with pytest.raises(TooFewMeasurementsError, match="at least 1"):
        fit_roofline([], np.zeros(0))
    with pytest.raises(ValueError, match="rates > 0"):
        Roofline(0, 1, 1)
