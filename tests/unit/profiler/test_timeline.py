"""Moments of rows while the host's clock is set."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from profiler.timeline import AS_STAMPED, GAP_S, STEP_BACK_S, Timeline

STAMPS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def test_a_clock_that_goes_on_changes_nothing() -> None:
    line = Timeline.from_stamps([2, 4, 6], [10.0, 11.0, 500.0])
    assert list(line.moments_s) == [10.0, 11.0, 500.0]
    assert [line.moment_s(row, at) for row, at in ((1, 9.5), (3, 10.5), (5, 20.0), (7, 501.0))] == [
        9.5, 10.5, 20.0, 501.0,
    ]  # fmt: skip


def test_without_rows_every_stamp_stands() -> None:
    assert AS_STAMPED.moment_s(7, 12.5) == 12.5


def test_what_follows_a_clock_that_was_set_back_stands_apart() -> None:
    line = Timeline.from_stamps([2, 4, 6, 8], [1000.0, 1001.0, 1.0, 2.0])
    assert list(line.moments_s) == [1000.0, 1001.0, 1001.0 + GAP_S, 1002.0 + GAP_S]
    # Between the rows 4 and 6 the clock was set: the stamp tells before or after.
    assert line.moment_s(5, 1001.5) == 1001.5
    assert line.moment_s(5, 0.5) == 1000.5 + GAP_S
    assert line.moment_s(7, 1.5) == 1001.5 + GAP_S
    # It was set back once more after the last row.
    assert line.moment_s(9, -500.0) == 1002.0 + 2 * GAP_S


def test_two_writers_a_little_out_of_step_are_no_clock_that_was_set() -> None:
    line = Timeline.from_stamps([1, 2], [10.0, 10.0 - STEP_BACK_S])
    assert list(line.moments_s) == [10.0, 10.0 - STEP_BACK_S]


@given(STAMPS)
def test_moments_never_go_back_by_more_than_the_step(stamps: list[float]) -> None:
    line = Timeline.from_stamps(range(len(stamps)), stamps)
    assert all(b - a >= -STEP_BACK_S - 1e-6 for a, b in pairwise(line.moments_s))
    for row, stamp in enumerate(stamps):
        assert abs(line.moment_s(row, stamp) - line.moments_s[row]) < 1e-6


@given(STAMPS, st.data())
def test_no_row_between_two_others_is_before_the_first(
    stamps: list[float], data: st.DataObject
) -> None:
    line = Timeline.from_stamps(range(0, 2 * len(stamps), 2), stamps)
    index = data.draw(st.integers(0, len(stamps) - 1))
    moment_s = line.moment_s(2 * index + 1, data.draw(st.floats(-1e6, 1e6)))
    assert moment_s >= line.moments_s[index] - STEP_BACK_S - 1e-6
