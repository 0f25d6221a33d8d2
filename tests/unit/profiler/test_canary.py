"""When a canary counts as moved."""

from __future__ import annotations

import pytest

from profiler.canary import CANARY, N_REMEMBERED, CanaryWatch


@pytest.mark.parametrize(
    ("latency_us", "moved"),
    [(100, False), (104.9, False), (105.1, True), (95.1, False), (94.9, True)],
)
def test_it_moved_when_it_is_more_than_five_percent_from_its_usual_latency(
    latency_us: float, moved: bool
) -> None:
    assert CanaryWatch((100.0,) * 20).has_moved(latency_us) == moved


def test_on_a_machine_that_is_never_quiet_only_the_unusual_moves() -> None:
    # Median 100, median absolute deviation 10: three deviations of a normal are 44.5.
    restless = (80, 90, 90, 100, 100, 110, 110, 120)
    assert not CanaryWatch(restless).has_moved(140)
    assert CanaryWatch(restless).has_moved(150)


def test_a_canary_that_failed_moved_and_is_not_remembered() -> None:
    watch = CanaryWatch(())
    assert watch.has_moved(None)
    assert not watch.has_moved(100)
    assert watch.has_moved(None)
    assert not watch.has_moved(100)


def test_a_new_level_becomes_the_usual_one_when_the_old_is_forgotten() -> None:
    watch = CanaryWatch((100.0,) * N_REMEMBERED)
    moved = [watch.has_moved(200) for _ in range(N_REMEMBERED)]
    assert moved[0]
    assert not moved[-1]
    # Half of a hundred at the new level: the median leaves the old one.
    assert 45 < sum(moved) < 55


def test_the_canary_feels_memory_too() -> None:
    assert CANARY.weight_bytes > 2_000_000
