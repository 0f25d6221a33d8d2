"""When a canary counts as moved."""

from __future__ import annotations

import pytest

from profiler.canary import CANARY, N_REMEMBERED, CanaryWatch


@pytest.mark.parametrize(
    ("latency_us", "moved"),
    [(100, False), (104.9, False), (105.1, True), (95.1, False), (94.9, True)],
)
def test_it_moved_when_it_is_more_than_five_percent_from_the_quiet_level(
    latency_us: float, moved: bool
) -> None:
    assert CanaryWatch((100.0,) * 20).has_moved(latency_us) == moved


def test_the_quiet_level_is_the_lower_quartile_because_disturbances_slow_down() -> None:
    # With one more 100 the lower quartile of eight numbers lies between the second and the third.
    watch = CanaryWatch((100, 100, 140, 150, 160, 170, 180))
    assert not watch.has_moved(100)
    assert watch.has_moved(140)


def test_a_canary_that_failed_moved_and_is_not_remembered() -> None:
    watch = CanaryWatch(())
    assert watch.has_moved(None)
    assert not watch.has_moved(100)
    assert watch.has_moved(None)
    assert not watch.has_moved(100)


def test_a_new_level_becomes_the_quiet_one_when_the_old_is_forgotten() -> None:
    watch = CanaryWatch((100.0,) * N_REMEMBERED)
    moved = [watch.has_moved(200) for _ in range(N_REMEMBERED)]
    assert moved[0]
    assert not moved[-1]
    # 75 of a hundred at the new level: the lower quartile just leaves the old one.
    assert 70 < sum(moved) < 80


def test_the_canary_feels_memory_too() -> None:
    assert CANARY.weight_bytes > 2_000_000
