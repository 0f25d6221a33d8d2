"""Intervals of the median against their definition and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from profiler.statistics import (
    leave_out_flagged,
    order_statistic_interval,
    upper_bound_of_median,
    visit_median_us,
)


def test_interval_of_ten_samples_is_the_tabled_second_and_ninth() -> None:
    # Conover, table A3 (binomial, p = 0.5): P(B <= 1) = 0.0107, so [x(2), x(9)] has 97.85 %.
    interval = order_statistic_interval([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], 0.95)
    assert (interval.low, interval.high) == (2, 9)
    assert interval.confidence == pytest.approx(1 - 2 * 11 / 1024)


def test_interval_of_too_few_samples_is_the_range_with_what_it_attains() -> None:
    interval = order_statistic_interval([3.0, 1.0, 2.0], 0.95)
    assert (interval.low, interval.high) == (1.0, 3.0)
    assert interval.confidence == pytest.approx(0.75)
    assert order_statistic_interval([5.0], 0.95).confidence == 0.0


def test_a_confidence_that_is_met_exactly_is_enough() -> None:
    interval = order_statistic_interval([1, 2, 3, 4, 5, 6], 1 - 2 / 64)
    assert (interval.low, interval.high) == (1, 6)
    assert interval.confidence == 1 - 2 / 64


def test_upper_bound_is_the_smallest_order_statistic_that_suffices() -> None:
    # n = 10: P(B <= 7) = 968/1024 = 0.945, P(B <= 8) = 1013/1024 = 0.989.
    bound = upper_bound_of_median(range(1, 11), 0.95)
    assert bound.value == 9
    assert bound.confidence == pytest.approx(1013 / 1024)
    assert upper_bound_of_median(range(1, 11), 0.94).value == 8


def test_upper_bound_of_three_samples_is_the_largest_at_seven_eighths() -> None:
    bound = upper_bound_of_median([2.0, 9.0, 4.0], 0.95)
    assert (bound.value, bound.confidence) == (9.0, pytest.approx(0.875))


@settings(deadline=None)
@given(st.integers(2, 3000), st.floats(0.5, 0.999))
def test_ranks_agree_with_the_binomial_distribution(n: int, confidence: float) -> None:
    interval = order_statistic_interval(range(1, n + 1), confidence)
    rank = int(interval.low)
    assert interval.high == n + 1 - rank
    assert interval.confidence == pytest.approx(1 - 2 * binom.cdf(rank - 1, n, 0.5), abs=1e-9)
    assert interval.confidence >= confidence - 1e-9 or rank == 1
    assert 1 - 2 * binom.cdf(rank, n, 0.5) < confidence + 1e-9  # the next narrower would not do
    bound = upper_bound_of_median(range(1, n + 1), confidence)
    s = int(bound.value)
    assert binom.cdf(s - 1, n, 0.5) >= confidence - 1e-9 or s == n
    assert s == 1 or binom.cdf(s - 2, n, 0.5) < confidence + 1e-9  # the next smaller would not do


def test_intervals_cover_the_median_of_a_skewed_distribution() -> None:
    rng = np.random.default_rng(3)
    samples = rng.lognormal(size=(2000, 25))  # its median is 1
    held = bounded = 0
    for row in samples:
        interval = order_statistic_interval(row.tolist(), 0.95)
        held += interval.low <= 1.0 <= interval.high
        bounded += upper_bound_of_median(row.tolist(), 0.95).value >= 1.0
    error = 4 * math.sqrt(0.05 * 0.95 / 2000)
    assert held / 2000 == pytest.approx(interval.confidence, abs=error)
    assert bounded / 2000 >= 0.95 - error


@pytest.mark.parametrize(
    ("samples", "confidence"), [([], 0.95), ([1.0], 0.0), ([1.0], 1.0), ([math.nan], 0.9)]
)
def test_samples_or_confidence_that_mean_nothing_are_refused(
    samples: list[float], confidence: float
) -> None:
    for function in (order_statistic_interval, upper_bound_of_median):
        with pytest.raises(ValueError, match="must"):
            function(samples, confidence)


def test_visit_median_is_of_one_repetition_in_microseconds() -> None:
    assert visit_median_us([8000, 2000, 6000], n_repeats=4) == 1.5


def test_flagged_values_stay_while_fewer_than_three_others_exist() -> None:
    assert leave_out_flagged([(1, False), (2, False), (9, True)]) == [1, 2, 9]
    assert leave_out_flagged([(1, False), (2, False), (9, True), (3, False)]) == [1, 2, 3]
