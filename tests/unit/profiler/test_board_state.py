"""Visits of different moments, made comparable by the canaries around them."""

from __future__ import annotations

import pytest

from profiler.board_state import MIN_CANARIES, WINDOW_S, BoardState


def test_a_board_that_was_a_fifth_slower_for_a_while_is_seen_to_be_so() -> None:
    times = [float(t) for t in range(100)]
    slow = range(40, 60)
    canaries = [120.0 if t in slow else 100.0 for t in range(100)]
    state = BoardState.from_canaries(times, canaries)
    assert state.slowdown(20.0) == pytest.approx(1.0)
    assert state.slowdown(50.0) == pytest.approx(1.2)
    assert 1.0 < state.slowdown(40.0) < 1.2  # half of the window is slow


def test_a_single_unusual_canary_counts_as_one_of_many() -> None:
    times = [0.5 * t for t in range(100)]
    canaries = [100.0] * 50 + [200.0] + [100.0] * 49
    n_in_window = int(2 * WINDOW_S / 0.5)
    expected = 2.0 ** (1 / n_in_window)
    assert BoardState.from_canaries(times, canaries).slowdown(25.0) == pytest.approx(
        expected, rel=1e-3
    )


def test_too_few_canaries_tell_nothing() -> None:
    few = BoardState.from_canaries([0.0] * (MIN_CANARIES - 1), [150.0] * (MIN_CANARIES - 1))
    assert few.slowdown(0.0) == 1.0
    assert BoardState.from_canaries([], []).slowdown(0.0) == 1.0
    far = BoardState.from_canaries([0.0] * 10, [100.0] * 10)
    assert far.slowdown(3600.0) == 1.0


def test_the_order_in_which_canaries_are_given_does_not_matter() -> None:
    times, canaries = [3.0, 1.0, 2.0, 0.0], [100.0, 130.0, 110.0, 90.0]
    turned = BoardState.from_canaries(times[::-1], canaries[::-1])
    assert BoardState.from_canaries(times, canaries).slowdown(1.5) == turned.slowdown(1.5)


def _visits(share: float) -> list[tuple[str, float, float]]:
    """Twenty networks, four visits each, that take part in the canaries' swing by a share."""
    moments = (5.0, 25.0, 45.0, 65.0)
    return [
        (f"net{index}", at, (100.0 + index) * (1.2 if at in {25.0, 65.0} else 1.0) ** share)
        for index in range(20)
        for at in moments
    ]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_networks_are_corrected_by_the_share_of_the_swing_that_they_take_part_in(
    share: float,
) -> None:
    times = [0.5 * t for t in range(160)]
    canaries = [120.0 if 20 <= t < 40 or t >= 60 else 100.0 for t in times]
    state = BoardState.from_canaries(times, canaries).followed_by(_visits(share))
    assert state.share == pytest.approx(share)
    swing = state.slowdown(30.0) / state.slowdown(10.0)
    assert swing == pytest.approx(1.2**share)


def test_canaries_are_not_heeded_before_enough_visits_follow_them() -> None:
    times = [0.5 * t for t in range(160)]
    canaries = [120.0 if t >= 40 else 100.0 for t in times]
    state = BoardState.from_canaries(times, canaries)
    assert state.followed_by(_visits(1.0)[:8]).slowdown(60.0) == 1.0
    assert BoardState.from_canaries([], []).followed_by(_visits(1.0)).slowdown(5.0) == 1.0


def test_what_happens_long_after_the_visits_does_not_change_what_is_usual() -> None:
    """A model and the networks that judge it later must speak of one speed."""
    times = [0.5 * t for t in range(160)]
    canaries = [100.0 + (t % 4) for t in times]
    later = [80.0 + 0.5 * t for t in range(800)]
    before = BoardState.from_canaries(times, canaries).followed_by(_visits(1.0))
    after = BoardState.from_canaries(times + later, canaries + [130.0] * 800)
    assert after.followed_by(_visits(1.0)).slowdown(30.0) == pytest.approx(before.slowdown(30.0))
