"""The measuring policy, on a scripted runner and a simulated clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from devices.device import Conditions, Failure, Timing
from devices.errors import RunnerLostError
from devices.session import N_AHEAD
from profiler.baseline import DEADLINE_S, PAUSE_S
from profiler.kernel_histories import BEHIND_FLAG
from profiler.measure import MAX_REPEATS, Item, Sweep, SweepLostError, measure, quality_flags
from profiler.pipeline import LOST, REPEATED_SHARE
from profiler.quality import Allowance
from profiler.store import RoundKey, Store, Visit

from .scripted import CRASH, DEVICE, QUIET, ScriptedRunner, item, steady, timing

NAMES = [f"k{index:02}" for index in range(20)]
ITEMS = [item(name) for name in NAMES]
MeasureWith = Callable[..., None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        opened.register_device(DEVICE)
        yield opened


@pytest.fixture
def measure_with(store: Store) -> MeasureWith:
    """Measure items with a runner whose time is the policy's time."""

    def run(
        runner: ScriptedRunner,
        items: Sequence[Item] = ITEMS,
        n_rounds: int = 3,
        seed: int = 5,
        progress: Callable[[int, int], None] = lambda *_: None,
        **settings: object,
    ) -> None:
        sweep = Sweep(
            *(runner, item("canary"), store, DEVICE.device_id, "profile", n_rounds),
            rng=np.random.default_rng(seed),
            clock=lambda: runner.now_s,
            sleep=runner.sleep,
            **settings,  # type: ignore[arg-type]
        )
        measure(items, sweep, progress)

    return run


def visits_in(store: Store) -> list[Visit]:
    return list(store.visits(DEVICE.device_id, purposes={"profile"}))


def rounds_in(store: Store) -> Counter[tuple[str, int]]:
    return Counter((visit.kernel, visit.round_index) for visit in visits_in(store))


ALL_ROUNDS = Counter((name, index) for name in NAMES for index in range(3))


def test_every_item_is_visited_once_a_round(store: Store, measure_with: MeasureWith) -> None:
    runner = ScriptedRunner()
    measure_with(runner)
    assert rounds_in(store) == ALL_ROUNDS
    visited = runner.items_visited
    for index in range(3):
        assert sorted(visited[20 * index : 20 * index + 20]) == NAMES
    assert all(visit.outcome == timing(100) for visit in visits_in(store))


def test_each_round_has_an_order_of_its_own_that_the_generator_decides(
    tmp_path: Path,
) -> None:
    orders = []
    for n, seed in enumerate((5, 5, 6)):
        runner = ScriptedRunner()
        with Store.open(tmp_path / f"{n}.db") as fresh:
            fresh.register_device(DEVICE)
            rng = np.random.default_rng(seed)
            measure(
                ITEMS, Sweep(runner, item("canary"), fresh, DEVICE.device_id, "profile", 3, rng)
            )
        visited = runner.items_visited
        orders.append([tuple(visited[20 * index : 20 * index + 20]) for index in range(3)])
    assert len({*orders[0], tuple(NAMES)}) == 4
    assert orders[0] == orders[1] != orders[2]


def test_the_canary_is_asked_before_and_after_every_moment_of_work(
    measure_with: MeasureWith,
) -> None:
    runner = ScriptedRunner(visit_s=0.11)
    measure_with(runner)
    assert runner.visited[0] == runner.visited[-1] == "canary"
    canaries = [index for index, name in enumerate(runner.visited) if name == "canary"]
    # The visit that begins before 0.3 s are over is the last of its block.
    assert max(b - a - 1 for a, b in pairwise(canaries)) == 3


def test_a_canary_is_kept_as_a_canary(store: Store, measure_with: MeasureWith) -> None:
    runner = ScriptedRunner()
    measure_with(runner)
    kept = list(store.visits(DEVICE.device_id, purposes={"canary"}))
    assert len(kept) == runner.visited.count("canary") > 0
    assert {visit.kernel for visit in kept} == {"canary"}


@pytest.mark.parametrize("n_before", [0, 8, 9, 12, 40, 65])
def test_after_a_lost_runner_the_next_run_makes_only_what_is_missing(
    store: Store, measure_with: MeasureWith, n_before: int
) -> None:
    def lose(name: str, n: int) -> Timing:
        if len(first.visited) > n_before:
            raise RunnerLostError("the cable")
        return steady(name, n)

    first = ScriptedRunner(lose)
    with pytest.raises(RunnerLostError):
        measure_with(first)
    kept = set(rounds_in(store))
    # 0.05 s a visit: no more than 0.3 s of work and the visit under way may be lost.
    assert len(kept) >= len(first.items_visited) - 8
    second = ScriptedRunner()
    measure_with(second, seed=6)
    assert rounds_in(store) == ALL_ROUNDS
    assert len(second.items_visited) == 60 - len(kept)


def test_a_sweep_that_is_done_visits_nothing(store: Store, measure_with: MeasureWith) -> None:
    measure_with(ScriptedRunner())
    again = ScriptedRunner()
    reports: list[tuple[int, int]] = []
    measure_with(again, progress=lambda done, total: reports.append((done, total)))
    assert again.visited == []
    assert reports[-1] == (60, 60)
    measure_with(again, n_rounds=4)
    assert sorted(again.items_visited) == NAMES
    assert set(rounds_in(store)) == {*ALL_ROUNDS, *((name, 3) for name in NAMES)}


def test_another_kernel_of_the_same_subject_is_visited(measure_with: MeasureWith) -> None:
    measure_with(ScriptedRunner(), [ITEMS[0]])
    runner = ScriptedRunner()
    changed = replace(item("new"), subject=ITEMS[0].subject)
    measure_with(runner, [changed, ITEMS[0]])
    assert runner.items_visited == ["new"] * 3


def test_progress_counts_up_to_all_visits(measure_with: MeasureWith) -> None:
    reports: list[tuple[int, int]] = []
    runner = ScriptedRunner(lambda name, n: CRASH if name == "k03" else steady(name, n))
    measure_with(runner, progress=lambda done, total: reports.append((done, total)))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert {total for _, total in reports} == {60}
    assert reports[-1] == (60, 60)


def test_an_item_that_failed_is_a_row_and_is_not_visited_again(
    store: Store, measure_with: MeasureWith
) -> None:
    def script(name: str, n: int) -> Timing | Failure:
        return CRASH if name == "k07" and n == 1 else steady(name, n)

    runner = ScriptedRunner(script)
    measure_with(runner)
    assert runner.visited.count("k07") == 1
    (row,) = [visit for visit in visits_in(store) if visit.kernel == "k07"]
    assert (row.outcome, row.round_index, row.flags) == (CRASH, 0, ())
    others = Counter({key: n for key, n in ALL_ROUNDS.items() if key[0] != "k07"})
    assert rounds_in(store) - Counter({("k07", 0): 1}) == others


def test_an_item_that_failed_in_a_later_round_keeps_the_earlier_ones(
    store: Store, measure_with: MeasureWith
) -> None:
    def script(name: str, n: int) -> Timing | Failure:
        return CRASH if name == "k07" and n == 2 else steady(name, n)

    measure_with(ScriptedRunner(script))
    rows = [visit for visit in visits_in(store) if visit.kernel == "k07"]
    assert [visit.outcome for visit in rows] == [timing(100), CRASH]


def flags_by_visit(store: Store) -> dict[tuple[str, int], list[tuple[str, ...]]]:
    flags = defaultdict(list)
    for visit in visits_in(store):
        flags[visit.kernel, visit.round_index].append(visit.flags)
    return dict(flags)


@pytest.mark.parametrize("moved_us", [106.0, 94.0])
def test_visits_beside_a_canary_that_moved_are_flagged_and_made_again(
    store: Store, measure_with: MeasureWith, moved_us: float
) -> None:
    def script(name: str, n: int) -> Timing:
        return timing(moved_us) if name == "canary" and n == 12 else steady(name, n)

    runner = ScriptedRunner(script, visit_s=0.11)
    measure_with(runner, ITEMS[:12], n_rounds=1)
    flags = flags_by_visit(store)
    again = {name for (name, _), found in flags.items() if len(found) > 1}
    # What stands between two canaries; the twelfth is the one that moved.
    moments = " ".join(runner.visited).split("canary")
    assert again == {*moments[11].split(), *moments[12].split()}
    assert len(again) == 6
    for (name, _), found in flags.items():
        assert found == ([("canary_moved",), ()] if name in again else [()])


@pytest.mark.parametrize("moved_us", [104.9, 95.1, 100.0])
def test_a_canary_within_its_tolerance_disturbs_nothing(
    store: Store, measure_with: MeasureWith, moved_us: float
) -> None:
    def script(name: str, n: int) -> Timing:
        return timing(moved_us) if name == "canary" and n == 12 else steady(name, n)

    measure_with(ScriptedRunner(script, visit_s=0.11), ITEMS[:12], n_rounds=1)
    assert set(map(tuple, flags_by_visit(store).values())) == {((),)}


def test_a_canary_that_failed_counts_as_moved(store: Store, measure_with: MeasureWith) -> None:
    def script(name: str, n: int) -> Timing | Failure:
        return CRASH if name == "canary" and n == 10 else steady(name, n)

    measure_with(ScriptedRunner(script), ITEMS[:3], n_rounds=1)
    assert all(found == [("canary_moved",), ()] for found in flags_by_visit(store).values())


def test_the_next_sweep_remembers_the_usual_level(store: Store, measure_with: MeasureWith) -> None:
    def slower(name: str, n: int) -> Timing:
        return timing(110) if name == "canary" else steady(name, n)

    measure_with(ScriptedRunner(), ITEMS[:1])
    runner = ScriptedRunner(slower)
    measure_with(runner, ITEMS[1:2], n_rounds=1)
    assert flags_by_visit(store)["k01", 0] == [("canary_moved",)] * (MAX_REPEATS + 1)
    assert runner.visited[1] == "k01"


def test_visits_are_made_again_no_more_than_max_repeats_times(
    store: Store, measure_with: MeasureWith
) -> None:
    def script(name: str, n: int) -> Timing:
        return timing(100 * 1.6**n) if name == "canary" else timing(100)

    runner = ScriptedRunner(script)
    measure_with(runner)
    assert set(runner.items_visited) == set(NAMES)
    for found in flags_by_visit(store).values():
        assert found == [("canary_moved",)] * (MAX_REPEATS + 1)


def test_an_item_that_failed_beside_a_canary_that_moved_is_not_visited_again(
    store: Store, measure_with: MeasureWith
) -> None:
    def script(name: str, n: int) -> Timing | Failure:
        if name == "canary":
            return timing(100 * 1.6**n)
        return CRASH if name == "k07" else steady(name, n)

    runner = ScriptedRunner(script)
    reports: list[tuple[int, int]] = []
    measure_with(runner, progress=lambda done, total: reports.append((done, total)))
    assert runner.visited.count("k07") == 1
    assert runner.visited.count("k08") == 3 * (MAX_REPEATS + 1)
    assert [visit.outcome for visit in visits_in(store) if visit.kernel == "k07"] == [CRASH]
    assert reports[-1] == (60, 60)


def test_an_item_that_fails_when_it_is_made_again_is_not_visited_in_later_rounds(
    measure_with: MeasureWith,
) -> None:
    def script(name: str, n: int) -> Timing | Failure:
        if name == "canary" and n == 10:
            return timing(200)
        return CRASH if name == "k01" and n == 2 else steady(name, n)

    runner = ScriptedRunner(script)
    measure_with(runner, ITEMS[:6])  # as many as stand between two canaries
    assert runner.visited.count("k01") == 2
    assert runner.visited.count("k02") == 4


@pytest.mark.parametrize("visit_s", [0.004, 0.1, 0.29, 2.5])
def test_no_more_than_a_third_of_a_second_of_work_is_unwritten_at_any_time(
    store: Store, measure_with: MeasureWith, visit_s: float
) -> None:
    unwritten_s: list[float] = []

    def script(name: str, n: int) -> Timing:
        if name != "canary":
            n_kept = sum(1 for _ in store.visits(DEVICE.device_id, purposes={"profile"}))
            unwritten_s.append(visit_s * (len(runner.items_visited) - n_kept))
        # Now and then the canary moves, and blocks are made again.
        return timing(200) if name == "canary" and n % 7 == 0 else steady(name, n)

    runner = ScriptedRunner(script, visit_s)
    measure_with(runner)
    assert len(unwritten_s) >= 60
    assert max(unwritten_s) <= 1 / 3 + visit_s


def test_rounds_are_keyed_as_the_store_keys_them(store: Store, measure_with: MeasureWith) -> None:
    measure_with(ScriptedRunner(), ITEMS[:1], n_rounds=1)
    assert store.rounds_done(DEVICE.device_id, "profile") == {
        RoundKey("subject k00", "gemm rows=4", "k00", 0)
    }


def test_a_sweep_without_rounds_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="n_rounds must be >= 1, got 0"):
        Sweep(
            *(ScriptedRunner(), item("canary"), store, DEVICE.device_id, "profile", 0),
            rng=np.random.default_rng(0),
        )


def around(**after: object) -> dict[str, Conditions]:
    return {"before": QUIET, "after": replace(QUIET, **after)}


UNKNOWN = Conditions(None, None, None, None, None)


@pytest.mark.parametrize(
    ("latency_us", "changes", "flags"),
    [
        (100, {}, ()),
        (100, {"before": UNKNOWN, "after": UNKNOWN}, ()),
        (100, {"before": UNKNOWN}, ()),
        # Five blocks of 0.1 s: 2 % are 10 ms, one tick; a single tick may be chance.
        (100, around(steal_ticks=101), ()),
        (100, around(steal_ticks=102), ("stolen",)),
        # Five blocks of 1 ms: 2 % are less than a tick.
        (1, around(steal_ticks=101), ()),
        (1, around(steal_ticks=102), ("stolen",)),
        # Five blocks of 1 s: 2 % are 10 ticks.
        (1000, around(steal_ticks=110), ()),
        (1000, around(steal_ticks=111), ("stolen",)),
        (100, {"n_preemptions": 5}, ()),
        (100, {"n_preemptions": 6}, ("preempted",)),
        # Quartiles of five numbers are the second and the fourth.
        (0, {"block_ns": (50, 95, 100, 105, 900)}, ()),
        (0, {"block_ns": (95, 95, 100, 106, 106)}, ("unsteady",)),
        (100, around(clock_mhz=2519.0), ()),
        (100, around(clock_mhz=2521.0), ("clock_changed",)),
        (100, around(clock_mhz=2279.0), ("clock_changed",)),
        (100, around(governor="powersave"), ()),
        (
            100,
            {
                "before": replace(QUIET, governor="performance"),
                "after": replace(QUIET, governor="powersave"),
            },
            ("governor_changed",),
        ),
        # Events of before do not count, flags of before (from bit 16 on) neither.
        (100, {"before": replace(QUIET, throttle_events=7), **around(throttle_events=7)}, ()),
        (
            100,
            {**around(throttle_events=8), "before": replace(QUIET, throttle_events=7)},
            ("throttled",),
        ),
        (100, around(throttle_flags=0x50000), ()),
        (100, around(throttle_flags=0x50005), ("throttled",)),
        # Two may run: the kernel and who talks to the host. One moment of more is chance.
        (100, around(n_running=9), ()),
        (
            100,
            {"before": replace(QUIET, n_running=3), "after": replace(QUIET, n_running=3)},
            ("busy",),
        ),
        (100, {"before": replace(QUIET, load_1min=3.0)}, ()),
        (100, {"before": replace(QUIET, load_1min=3.1)}, ("loaded",)),
        (
            0,
            {
                "block_ns": (1, 2, 3, 4, 5),
                "n_preemptions": 9,
                **around(steal_ticks=900, clock_mhz=1),
            },
            ("stolen", "preempted", "unsteady", "clock_changed"),
        ),
    ],
)
def test_a_timing_raises_the_doubts_that_its_numbers_give(
    latency_us: float, changes: dict[str, object], flags: tuple[str, ...]
) -> None:
    assert quality_flags(timing(latency_us, **changes)) == flags


@pytest.mark.parametrize(
    ("allowance", "flags"),
    [
        (Allowance(4), ()),
        (Allowance(3), ("busy",)),
        (Allowance(4, limit_c=40.0), ()),
        (Allowance(4, limit_c=39.9), ("hot",)),
        (Allowance(4, governor="performance"), ()),
        (Allowance(4, governor="powersave"), ("governor_changed",)),
    ],
)
def test_what_is_allowed_raises_no_doubt(allowance: Allowance, flags: tuple[str, ...]) -> None:
    state = replace(QUIET, n_running=4, governor="performance")
    assert quality_flags(timing(100, before=state, after=state), allowance) == flags


def test_flags_of_a_timing_are_kept_with_the_visit(store: Store, measure_with: MeasureWith) -> None:
    def script(name: str, n: int) -> Timing:
        if name == "canary":
            return timing(200 if n == 10 else 100)
        return timing(100, block_ns=(50, 90, 100, 105, 900))

    measure_with(ScriptedRunner(script), ITEMS[:1], n_rounds=1)
    assert [visit.flags for visit in visits_in(store)] == [
        ("unsteady", "canary_moved"),
        ("unsteady",),
    ]


def test_the_board_need_not_wait_for_the_host(measure_with: MeasureWith) -> None:
    runner = ScriptedRunner(visit_s=0.01)
    measure_with(runner)
    # All but the first visits, whose kind is unknown, and the last, behind which nothing comes.
    assert Counter(runner.n_ahead).most_common(1)[0][0] == N_AHEAD
    assert sum(n >= N_AHEAD for n in runner.n_ahead) > 0.8 * len(runner.n_ahead)
    assert max(runner.n_ahead) == N_AHEAD


def test_no_more_than_a_moment_of_long_visits_is_asked_for_ahead(
    measure_with: MeasureWith,
) -> None:
    runner = ScriptedRunner(visit_s=2.5)
    measure_with(runner)
    assert set(runner.n_ahead_of_items) == {1}  # the canary behind it


def test_the_same_visit_is_never_under_way_twice(measure_with: MeasureWith) -> None:
    runner = ScriptedRunner(visit_s=0.001)
    measure_with(runner, ITEMS[:1], n_rounds=30)
    assert set(runner.n_ahead_of_items) <= {0, 1}  # nothing, or the canary


def test_what_a_board_slowed_down_is_made_again_after_it_has_cooled(
    store: Store, measure_with: MeasureWith
) -> None:
    def script(name: str, _: int) -> Timing:
        nonlocal hot_since
        if name == "k05" and hot_since is None:
            hot_since = runner.now_s
        is_hot = hot_since is not None and runner.now_s - hot_since < 20
        state = replace(QUIET, temperature_c=81.4 if is_hot else 60.0)
        flags = {"throttle_flags": 0x4 if is_hot and name != "canary" else 0}
        return timing(100, before=replace(state, **flags), after=replace(state, **flags))

    hot_since: float | None = None
    runner = ScriptedRunner(script, visit_s=0.01)
    told: list[str] = []
    measure_with(runner, n_rounds=1, notice=told.append)
    assert told == ["cooling down, 81 of 70 C"] * len(told)
    assert len(told) >= 20 / PAUSE_S - 2
    flags = flags_by_visit(store)
    hot = {name: found for (name, _), found in flags.items() if len(found) > 1}
    assert "k05" in hot
    assert len(hot) <= N_AHEAD + 2  # those that were under way already
    for found in hot.values():
        assert set(found[0]) == {"throttled", "hot"}
        assert found[1:] == [()]
    assert all(found[-1] == () for found in flags.values())


def test_a_board_that_stays_hot_is_measured_after_the_deadline_and_flagged(
    store: Store, measure_with: MeasureWith
) -> None:
    def script(_: str, __: int) -> Timing:
        state = replace(QUIET, temperature_c=60.0 if len(runner.visited) < 20 else 75.0)
        return timing(100, before=state, after=state)

    runner = ScriptedRunner(script, visit_s=0.01)
    told: list[str] = []
    measure_with(runner, notice=told.append)
    assert told[-1] == f"still hot after {DEADLINE_S:.0f} s: what follows is flagged"
    assert told.count(told[-1]) == 1
    assert DEADLINE_S <= runner.now_s < DEADLINE_S + 5
    assert rounds_in(store) == ALL_ROUNDS  # hot is a doubt, and repeating does not help
    found = [visit.flags for visit in visits_in(store)]
    assert set(found) == {(), ("hot",)}
    assert found.count(("hot",)) > 40


@pytest.mark.parametrize("flag", ["busy", "preempted", "clock_changed"])
def test_a_board_that_is_never_quiet_is_not_measured_three_times_over(
    store: Store, measure_with: MeasureWith, flag: str
) -> None:
    crowd = replace(QUIET, n_running=7)
    doubt: dict[str, dict[str, object]] = {
        "busy": {"before": crowd, "after": crowd},
        "preempted": {"n_preemptions": 6},
        "clock_changed": {"after": replace(QUIET, clock_mhz=1000.0)},
    }
    runner = ScriptedRunner(
        lambda name, _: timing(100, **({} if name == "canary" else doubt[flag]))
    )
    measure_with(runner)
    assert len(runner.items_visited) == 60 + REPEATED_SHARE * 60
    assert {visit.flags for visit in visits_in(store)} == {(flag,)}
    assert set(rounds_in(store)) == set(ALL_ROUNDS)


def test_what_another_process_disturbed_is_made_again(
    store: Store, measure_with: MeasureWith
) -> None:
    crowd = replace(QUIET, n_running=3)

    def script(name: str, n: int) -> Timing:
        is_crowded = name == "k03" and n == 2
        return timing(100, before=crowd, after=crowd) if is_crowded else steady(name, n)

    measure_with(ScriptedRunner(script), ITEMS)
    flags = flags_by_visit(store)
    assert flags["k03", 1] == [("busy",), ()]
    assert sum(map(len, flags.values())) == 61


def test_a_lost_runner_tells_what_was_in_flight_and_what_was_answered_is_kept(
    store: Store, measure_with: MeasureWith
) -> None:
    def lose(name: str, n: int) -> Timing:
        if len(runner.visited) > 20:
            raise RunnerLostError("the cable")
        return steady(name, n)

    runner = ScriptedRunner(lose, visit_s=0.01)
    with pytest.raises(SweepLostError, match="the cable") as caught:
        measure_with(runner)
    assert not caught.value.is_noted
    in_flight = [visit.kernel for visit in caught.value.in_flight]
    assert in_flight[0] == runner.visited[20]
    assert 1 < len(in_flight) <= N_AHEAD + 1
    assert {visit.outcome for visit in caught.value.in_flight} == {LOST}
    flags = [visit.flags for visit in caught.value.in_flight]
    assert flags == [(), *[(BEHIND_FLAG,)] * (len(in_flight) - 1)]
    kept = visits_in(store)
    assert [visit.kernel for visit in kept] == runner.items_visited[:-1]
    assert {visit.flags for visit in kept} == {("unwatched",)}


def test_suspects_are_visited_first_and_alone(store: Store, measure_with: MeasureWith) -> None:
    runner = ScriptedRunner(visit_s=0.01)
    suspects = frozenset(each.name for each in ITEMS[7:9])
    measure_with(runner, suspects=suspects)
    assert set(runner.items_visited[:2]) == {"k07", "k08"}
    visited = [name for name in runner.visited if name in {"k07", "k08"}]
    for name in visited[:2]:
        assert runner.n_ahead[runner.visited.index(name)] == 0
    assert max(runner.n_ahead) == N_AHEAD
    assert rounds_in(store) == ALL_ROUNDS
    assert store.boards.suspects(DEVICE.device_id) == frozenset()
