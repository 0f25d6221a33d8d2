"""Moments of rows while the host's clock is set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.store import Store, Visit
from profiler.timeline import AS_STAMPED, GAP_S, STEP_BACK_S, Timeline

from .scripted import DEVICE, PLAN, timing

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


OPERATOR = "dense:1x1x1x8:o8:k1x1:s1x1:p0.0.0.0:d1x1::float32"
CANARY = Visit(DEVICE.device_id, "operator", "canary", "canary", "", "canary", 0, PLAN, timing(100))
NETWORK = replace(
    CANARY, subject_kind="network", subject="space:1", kernel="n", purpose="profile",
    operators=(OPERATOR,),
)  # fmt: skip


@pytest.mark.parametrize("jump_s", [0, -60, -100_000, 100_000])
def test_a_clock_that_is_set_does_not_mix_what_was_measured_at_different_times(
    tmp_path: Path, jump_s: float
) -> None:
    """A board of half the speed after the clock was set: all visits agree at its usual speed."""
    now = datetime(2025, 3, 1, tzinfo=UTC)
    with Store.open(tmp_path / "store.db", clock=lambda: now) as store:
        store.register_device(DEVICE)
        for slowness in (1, 2):
            for _ in range(70):
                now += timedelta(seconds=0.5)
                store.append([replace(NETWORK, outcome=timing(50 * slowness))])
                now += timedelta(seconds=0.5)
                store.append([replace(CANARY, outcome=timing(100 * slowness))])
            now += timedelta(seconds=jump_s or 3600)
        (latency,) = store.network_latencies(DEVICE.device_id)
    assert len(latency.session_us) == 140
    assert max(latency.session_us) == pytest.approx(min(latency.session_us), rel=1e-6)
    # Moments keep the order in which rows were written.
    assert list(latency.session_s) == sorted(latency.session_s)
