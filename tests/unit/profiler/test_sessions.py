"""The latency of a network from scripted sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.device import Failure, Timing
from devices.errors import RunnerLostError
from profiler.measure import Item, Sweep, SweepLostError
from profiler.pipeline import LOST
from profiler.sessions import (
    MAX_EXTRA_SESSIONS,
    SESSION_PLAN,
    SPACING_S,
    NetworkFailedError,
    NetworkMeasurement,
    choose_n_sessions,
    measure_network,
    recall_network,
)
from profiler.store import Purpose, Store, Visit

from .scripted import CRASH, DEVICE, QUIET, Script, ScriptedRunner, item, timing

OPERATOR = "dense:1x1x1x8:o8:k1x1:s1x1:p0.0.0.0:d1x1::float32"
NETWORK = Item(
    "network", "test:network", "program", "", (OPERATOR,), item("program").workload, SESSION_PLAN
)
#: Eleven sessions in a disorder; sorted they are 100, 101, ... 110 us.
SESSION_US = (105, 100, 110, 103, 101, 109, 102, 108, 104, 107, 106)

MeasureWith = Callable[..., NetworkMeasurement]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        opened.register_device(DEVICE)
        yield opened


@pytest.fixture
def measure_with(store: Store) -> MeasureWith:
    def run(
        runner: ScriptedRunner,
        n_sessions: int = 11,
        naps: list[float] | None = None,
        purpose: Purpose = "verify",
        **options: Callable[[int, int], None],
    ) -> NetworkMeasurement:
        rng = np.random.default_rng(0)
        canary = item("canary")
        sweep = Sweep(
            *(runner, canary, store, DEVICE.device_id, purpose, n_sessions, rng),
            clock=lambda: runner.now_s,
            sleep=runner.sleep,
        )
        sleep = ([] if naps is None else naps).append
        return measure_network(NETWORK, sweep, sleep=sleep, **options)

    return run


def visits_in(store: Store) -> list[Visit]:
    return list(store.visits(DEVICE.device_id, subject="test:network"))


def script(moved: frozenset[int] = frozenset(), **changes: object) -> Script:
    """Sessions as in SESSION_US, again and again; the canary moves at the visits named."""

    def answer(name: str, n: int) -> Timing:
        if name == "canary":
            return timing(60 if n in moved else 50)
        return timing(SESSION_US[(n - 1) % 11], **changes)

    return answer


def test_eleven_sessions_give_the_tabled_order_statistics(
    store: Store, measure_with: MeasureWith
) -> None:
    measured = measure_with(ScriptedRunner(script()))
    assert measured.latency_us == 105
    # B ~ Binomial(11, 1/2): P(B <= 1) = 12/2048, P(B <= 2) = 67/2048, P(B <= 8) = 1981/2048.
    assert (measured.low_us, measured.high_us) == (101, 109)
    assert measured.confidence == pytest.approx(1 - 2 * 12 / 2048)
    assert measured.upper_us == 108
    assert measured.session_us == SESSION_US
    assert measured.flags == ()
    rows = visits_in(store)
    assert [visit.round_index for visit in rows] == list(range(11))
    assert {visit.purpose for visit in rows} == {"verify"}


def test_a_limit_is_met_at_the_upper_bound_and_not_below(measure_with: MeasureWith) -> None:
    measured = measure_with(ScriptedRunner(script()))
    assert measured.meets(108)
    assert not measured.meets(107.999)


def test_each_session_is_a_long_visit_between_two_canaries(measure_with: MeasureWith) -> None:
    runner, naps = ScriptedRunner(script()), list[float]()
    measure_with(runner, n_sessions=3, naps=naps)
    assert runner.visited == ["canary"] * 8 + ["canary", "program", "canary"] * 3
    sessions = [
        plan for name, plan in zip(runner.visited, runner.plans, strict=True) if name[0] == "p"
    ]
    assert sessions == [SESSION_PLAN] * 3
    assert naps == [SPACING_S] * 2


@pytest.mark.parametrize(("latency_us", "n_blocks"), [(100, 25), (100_000, 10), (500_000, 5)])
def test_sessions_of_a_slow_network_have_fewer_blocks_after_the_first(
    measure_with: MeasureWith, latency_us: int, n_blocks: int
) -> None:
    runner = ScriptedRunner(lambda name, _: timing(50 if name == "canary" else latency_us))
    measure_with(runner, n_sessions=3)
    plans = [p for name, p in zip(runner.visited, runner.plans, strict=True) if name == "program"]
    assert [plan.n_blocks for plan in plans] == [25, n_blocks, n_blocks]


# Canaries 1 to 8 find the quiet level, 7 + 2 k and 8 + 2 k stand around session k.
@pytest.mark.parametrize("moved", [frozenset({13}), frozenset({14})])
def test_a_session_beside_a_canary_that_moved_is_made_again_and_left_out(
    store: Store, measure_with: MeasureWith, moved: frozenset[int]
) -> None:
    naps: list[float] = []
    measured = measure_with(ScriptedRunner(script(moved)), naps=naps)
    rows = visits_in(store)
    assert len(rows) == 12
    assert [visit.flags for visit in rows] == [
        ("canary_moved",) if index == 2 else () for index in range(12)
    ]
    # The third, 110 us, is left out; the twelfth is the script's first, 105 us.
    assert sorted(measured.session_us) == [100, 101, 102, 103, 104, 105, 105, 106, 107, 108, 109]
    assert measured.flags == ()
    assert naps.count(2 * SPACING_S) == 1
    assert naps.count(SPACING_S) == 10


def test_a_session_with_stolen_time_is_made_again_too(
    store: Store, measure_with: MeasureWith
) -> None:
    def answer(name: str, n: int) -> Timing:
        if name == "program" and n == 4:
            return timing(300, before=QUIET, after=QUIET.__class__(0.1, 1, 200, 2400.0, 40.0))
        return script()(name, n)

    measured = measure_with(ScriptedRunner(answer))
    assert len(visits_in(store)) == 12
    assert 300 not in measured.session_us
    assert len(measured.session_us) == 11


def test_no_more_than_the_extra_sessions_are_made_and_then_all_count(
    store: Store, measure_with: MeasureWith
) -> None:
    def answer(name: str, n: int) -> Timing:
        return timing(50 * 1.6 ** max(n - 8, 0)) if name == "canary" else script()(name, n)

    runner = ScriptedRunner(answer)
    measured = measure_with(runner)
    assert runner.visited.count("program") == 11 + MAX_EXTRA_SESSIONS == 22
    assert len(visits_in(store)) == 22
    assert measured.session_us == SESSION_US * 2
    assert measured.flags == ("canary_moved",)


def test_a_restless_device_gets_more_sessions_chosen_before_the_first(
    measure_with: MeasureWith,
) -> None:
    # Median 100, median absolute deviation 5: a standard deviation of 7.4 % asks for 37 sessions.
    first_us = (90, 95, 95, 100, 100, 105, 105, 110)

    def answer(name: str, n: int) -> Timing:
        if name == "canary":
            return timing(first_us[n - 1] if n <= 8 else 100)
        return script()(name, n)

    runner = ScriptedRunner(answer)
    measured = measure_with(runner)
    assert runner.visited.count("program") == 33
    assert measured.session_us == SESSION_US * 3
    # B ~ Binomial(33, 1/2): P(B <= 20) = 0.919, P(B <= 21) = 0.960: the 22nd of 33, three of each.
    assert measured.upper_us == 107


@pytest.mark.parametrize(
    ("deviation", "n"), [(0.0, 11), (0.03, 11), (0.045, 14), (0.06, 25), (0.07, 33), (0.5, 33)]
)
def test_sessions_grow_with_the_square_of_the_spread_up_to_three_times(
    deviation: float, n: int
) -> None:
    assert choose_n_sessions(deviation, 11) == n


def test_doubts_about_kept_sessions_are_told_once_each(measure_with: MeasureWith) -> None:
    loaded = replace(QUIET, load_1min=9.0)
    measured = measure_with(ScriptedRunner(script(before=loaded)))
    assert len(measured.session_us) == 11
    assert measured.flags == ("loaded",)


def test_progress_counts_undisturbed_sessions(measure_with: MeasureWith) -> None:
    reports: list[tuple[int, int]] = []
    runner = ScriptedRunner(script(frozenset({11})))
    measure_with(runner, n_sessions=3, progress=lambda done, n: reports.append((done, n)))
    assert reports == [(1, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("n_before", [0, 4])
def test_a_network_that_fails_is_told_after_the_failure_was_kept(
    store: Store, measure_with: MeasureWith, n_before: int
) -> None:
    def answer(name: str, n: int) -> Timing | Failure:
        return CRASH if name == "program" and n > n_before else script()(name, n)

    runner = ScriptedRunner(answer)
    with pytest.raises(NetworkFailedError, match=r"test:network failed .* crash: signal 11"):
        measure_with(runner)
    rows = visits_in(store)
    assert len(rows) == n_before + 1
    assert rows[-1].outcome == CRASH
    assert runner.visited.count("program") == n_before + 1


def test_a_session_beside_a_canary_that_failed_is_made_again(
    store: Store, measure_with: MeasureWith
) -> None:
    def answer(name: str, n: int) -> Timing | Failure:
        return CRASH if name == "canary" and n == 13 else script()(name, n)

    measured = measure_with(ScriptedRunner(answer))
    flags = [visit.flags for visit in visits_in(store)]
    assert flags == [("canary_moved",) if index == 2 else () for index in range(12)]
    assert len(measured.session_us) == 11


def test_a_runner_that_is_lost_tells_which_network_was_in_flight(
    store: Store, measure_with: MeasureWith
) -> None:
    def answer(name: str, n: int) -> Timing:
        if name == "program" and n == 3:
            raise RunnerLostError("the cable")
        return script()(name, n)

    with pytest.raises(SweepLostError, match="the cable") as caught:
        measure_with(ScriptedRunner(answer))
    (visit,) = caught.value.in_flight
    assert (visit.kernel, visit.outcome, visit.flags) == ("program", LOST, ())
    assert len(visits_in(store)) == 2


def test_a_network_that_took_the_board_down_twice_is_not_run(
    store: Store, measure_with: MeasureWith
) -> None:
    visit = Visit(
        DEVICE.device_id, "network", NETWORK.subject, NETWORK.kernel, "", "measure", 0,
        SESSION_PLAN, LOST, operators=(OPERATOR,),
    )  # fmt: skip
    store.append([visit, visit])
    runner = ScriptedRunner(script())
    with pytest.raises(NetworkFailedError, match="is in quarantine"):
        measure_with(runner)
    assert runner.visited == []


def test_a_board_that_gets_hot_is_left_alone_between_sessions(
    store: Store, measure_with: MeasureWith
) -> None:
    def answer(name: str, n: int) -> Timing:
        is_hot = (name == "program" and n == 4) or (name == "canary" and 17 <= n <= 18)
        state = replace(QUIET, temperature_c=80.0 if is_hot else 50.0)
        return timing(
            50 if name == "canary" else SESSION_US[(n - 1) % 11], before=state, after=state
        )

    measured = measure_with(ScriptedRunner(answer))
    flags = [visit.flags for visit in visits_in(store)]
    assert flags == [("hot",) if index == 3 else () for index in range(12)]
    assert len(measured.session_us) == 11


def test_what_was_measured_is_recalled_as_it_was_told(
    store: Store, measure_with: MeasureWith
) -> None:
    assert recall_network(NETWORK, store, DEVICE.device_id) is None
    moved = frozenset({6})
    measured = measure_with(ScriptedRunner(script(moved)), purpose="measure")
    timestamped = replace(NETWORK, plan=replace(SESSION_PLAN, with_timestamps=True))
    visits = [replace(visit, plan=timestamped.plan) for visit in visits_in(store)[:3]]
    store.append(visits)  # timed afterwards, call by call
    assert recall_network(NETWORK, store, DEVICE.device_id) == measured
    assert recall_network(replace(NETWORK, kernel="other"), store, DEVICE.device_id) is None


def test_the_last_sessions_are_recalled_and_not_older_ones(
    store: Store, measure_with: MeasureWith
) -> None:
    measure_with(ScriptedRunner(script()), purpose="measure")
    slower = ScriptedRunner(lambda name, n: timing(50 if name == "canary" else 200 + n))
    measured = measure_with(slower, purpose="measure")
    assert recall_network(NETWORK, store, DEVICE.device_id) == measured
    assert measured.latency_us > 200


def test_sessions_of_a_deployment_or_half_a_set_are_not_recalled(
    store: Store, measure_with: MeasureWith
) -> None:
    measure_with(ScriptedRunner(script()))
    assert recall_network(NETWORK, store, DEVICE.device_id) is None
    first_ten = [replace(visit, purpose="measure") for visit in visits_in(store)[:10]]
    store.append(first_ten)
    assert recall_network(NETWORK, store, DEVICE.device_id) is None


def test_a_set_that_ended_with_a_failure_is_not_recalled(
    store: Store, measure_with: MeasureWith
) -> None:
    def answer(name: str, n: int) -> Timing | Failure:
        return timing(50) if name == "canary" else CRASH if n == 12 else timing(100)

    with pytest.raises(NetworkFailedError):
        measure_with(ScriptedRunner(answer), n_sessions=20, purpose="measure")
    assert recall_network(NETWORK, store, DEVICE.device_id) is None
