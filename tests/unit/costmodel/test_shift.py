"""Networks measured twice tell how a device has changed."""

from __future__ import annotations

import pytest

from costmodel.shift import Shift, find_shifts
from profiler.measurement import NetworkLatency


def row(name: str, latency_us: float) -> NetworkLatency:
    return NetworkLatency(name, (), latency_us, (latency_us,))


def rows(family: str, latencies_us: list[float]) -> list[NetworkLatency]:
    return [row(f"{family}:{index}", us) for index, us in enumerate(latencies_us)]


def test_the_median_over_networks_measured_twice_with_its_interval_for_each_family():
    then = [*rows("a", [100.0] * 9), *rows("b", [200.0, 400.0])]
    percents = [1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0, 7.0, 90.0]
    now = [*rows("b", [198.0, 396.0]), *rows("a", [100 + percent for percent in percents])]
    (a, found), (b, small) = find_shifts(then, [*now, row("a:new", 1.0)])
    assert (a, b) == ("a", "b")
    assert found.n_networks == 9
    # Nine samples: from the second to the second last with 96 %.
    assert (found.median_percent, found.low_percent, found.high_percent) == pytest.approx((4, 2, 7))
    assert small.n_networks == 2
    assert small.median_percent == pytest.approx(-1)


def test_nothing_measured_twice_is_no_shift():
    assert find_shifts(rows("a", [1.0]), rows("b", [1.0])) == ()


@pytest.mark.parametrize(
    ("low", "median", "high", "is_notable"),
    [
        (1.5, 2.0, 3.0, True),
        (-3.0, -2.0, -1.0, True),
        (-0.5, 2.0, 3.0, False),  # perhaps nothing
        (0.3, 0.5, 0.8, False),  # surely something, too little to matter
    ],
)
def test_a_shift_is_notable_where_it_is_sure_and_not_small(
    low: float, median: float, high: float, is_notable: bool
):
    assert Shift(9, median, low, high).is_notable is is_notable
