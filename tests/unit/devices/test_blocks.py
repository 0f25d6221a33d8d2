from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.blocks import MIN_BLOCK_TICKS, Stopwatch, measure_tick_ns, time_blocks
from devices.device import Conditions, TimingPlan

QUIET = Conditions(0.1, 1, 100, 2400.0, 40.0)
TICK_NS = 20


class SimulatedBoard:
    """A clock that a run moves on; each run is slower than it should be by a factor of its turn."""

    def __init__(self, run_ns: int, speeds: list[float] | None = None) -> None:
        self.now_ns = 0
        self.n_runs = 0
        self.run_ns = run_ns
        self.speeds = speeds or [1.0]
        self.n_switched = 0
        self.conditions_at: list[int] = []

    def run(self) -> None:
        self.now_ns += int(self.run_ns / self.speeds[self.n_runs % len(self.speeds)])
        self.n_runs += 1

    def watch(self) -> Stopwatch:
        return Stopwatch(lambda: self.now_ns, TICK_NS, self._preemptions, self._conditions)

    def _preemptions(self) -> int:
        self.n_switched += 3
        return self.n_switched

    def _conditions(self) -> Conditions:
        self.conditions_at.append(self.n_runs)
        return QUIET


@given(
    run_ns=st.integers(50, 10_000_000),
    min_block_ns=st.integers(0, 3_000_000),
    n_blocks=st.integers(1, 5),
    warmup_ns=st.integers(0, 1_000_000),
)
def test_every_block_lasts_as_long_as_it_must_and_the_mean_is_the_run(
    run_ns: int, min_block_ns: int, n_blocks: int, warmup_ns: int
) -> None:
    board = SimulatedBoard(run_ns)
    plan = TimingPlan(warmup_ns, min_block_ns, n_blocks, False, 0)
    blocks = time_blocks(board.run, plan, board.watch())
    assert len(blocks.block_ns) == n_blocks
    assert min(blocks.block_ns) >= max(min_block_ns, MIN_BLOCK_TICKS * TICK_NS)
    assert set(blocks.block_ns) == {blocks.n_repeats * run_ns}
    assert board.conditions_at[0] * run_ns >= warmup_ns
    assert board.conditions_at[0] >= 3  # two to warm up, one or more to calibrate


def test_calibration_does_not_run_much_longer_than_a_block() -> None:
    board = SimulatedBoard(run_ns=1_000)
    blocks = time_blocks(board.run, TimingPlan(0, 1_000_000, 1, False, 0), board.watch())
    assert 1_000 <= blocks.n_repeats <= 1_100


def test_a_board_that_was_slow_while_calibrating_has_all_its_blocks_again() -> None:
    board = SimulatedBoard(1_000)
    n_calls = 0

    def run() -> None:
        nonlocal n_calls
        n_calls += 1
        board.run_ns = 10_000 if n_calls < 150 else 1_000
        board.run()

    blocks = time_blocks(run, TimingPlan(0, 1_000_000, 3, False, 0), board.watch())
    assert min(blocks.block_ns) >= 1_000_000
    assert set(blocks.block_ns) == {blocks.n_repeats * 1_000}, "blocks of two rounds were mixed"


def test_conditions_and_preemptions_are_those_around_the_blocks() -> None:
    board = SimulatedBoard(1_000_000)
    blocks = time_blocks(board.run, TimingPlan(0, 1_000_000, 4, False, 0), board.watch())
    before, after = board.conditions_at
    assert after - before == 1 + 4  # one run between to warm the caches again
    assert (blocks.before, blocks.after) == (QUIET, QUIET)
    assert blocks.n_preemptions == 3


def test_the_tick_is_the_smallest_step_of_the_clock() -> None:
    readings = iter(range(0, 10**9, 7))
    assert measure_tick_ns(lambda: next(readings) // 70 * 70) == 70
    assert 0 < measure_tick_ns() < 1_000_000


def test_a_run_that_fails_ends_the_timing() -> None:
    def run() -> None:
        raise RuntimeError("model failed")

    with pytest.raises(RuntimeError, match="model failed"):
        time_blocks(run, TimingPlan(0, 0, 1, False, 0), SimulatedBoard(1).watch())
