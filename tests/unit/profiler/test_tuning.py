"""Which candidates are timed: few where much is known, all where that is asked for."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.board import Fingerprint
from devices.device import Failure, Timing
from profiler.artifacts import ArtifactStore
from profiler.bench import Bench
from profiler.build import BuildFailure, Kernel
from profiler.compilers import Compilers
from profiler.operator import Operator
from profiler.runtime import Linked
from profiler.runtimes import tuning
from profiler.runtimes.own import OwnRuntime
from profiler.runtimes.tuning import N_LESSONS, N_LONG, N_SHORT, N_TUNING_ROUNDS, Tuning
from profiler.schedules import space
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import candidates
from profiler.store import Purpose, Store
from profiler.target import Target, target_of
from profiler.tunings import Ranking, Trial, TuningPolicy

from .scripted import DEVICE as SCRIPTED
from .scripted import ScriptedRunner, item, timing

DEVICE = Fingerprint(
    SCRIPTED.board, replace(SCRIPTED.runtime, versions=(("schedules", str(space.VERSION)),))
)
TARGET = target_of(DEVICE.board)
#: Products of 56 x 56 rows with six candidates each.
GEMMS = tuple(Operator("conv2d", (1, 56, 56, 8 * n), 96 + 16 * n) for n in range(1, 25))
POOLS = tuple(Operator("global_avg_pool2d", (1, 7, 7, 64 * n), 64 * n) for n in range(1, 4))


def digest(operator: Operator, schedule: Schedule) -> str:
    return hashlib.sha256(f"{operator.key} {schedule.text}".encode()).hexdigest()


def name(operator: Operator, schedule: Schedule) -> str:
    return Kernel(operator, schedule, digest(operator, schedule)).name


@dataclass(frozen=True)
class Backwards:
    """The last candidates of the list first."""

    def order(self, operator: Operator, target: Target) -> tuple[Schedule, ...]:
        return candidates(operator, target)[::-1]


@dataclass
class Desk:
    """A bench whose runner is scripted, and what was asked of it."""

    bench: Bench
    runner: ScriptedRunner
    built: list[tuple[Operator, Schedule]] = field(default_factory=list)
    broken: set[tuple[Operator, Schedule]] = field(default_factory=set)
    learned_from: list[Sequence[Trial]] = field(default_factory=list)
    n_builds: int = 0
    host_cores: tuple[int, ...] = ()

    name = "desk"

    def start(self, _: Path) -> ScriptedRunner:
        """As a device does."""
        return self.runner

    def learn(self, trials: Sequence[Trial]) -> Ranking:
        self.learned_from.append(trials)
        return Backwards()

    def tune(
        self, operators: Sequence[Operator], purpose: Purpose = "tune", *, exhaustive: bool = False
    ) -> None:
        def link(_: Sequence[Kernel]) -> Linked:
            return Linked(Path("executable"), item("canary"))

        policy = TuningPolicy(self.learn, exhaustive)
        rng = np.random.default_rng(0)
        Tuning(self.bench, policy, link, purpose, rng, lambda *_: None).tune(operators)

    def build(
        self, requests: Sequence[tuple[Operator, Schedule]], *_: Any
    ) -> tuple[Kernel | BuildFailure, ...]:
        self.built += requests
        self.n_builds += 1
        return tuple(
            BuildFailure(*request, "no")
            if request in self.broken
            else Kernel(*request, digest(*request))
            for request in requests
        )

    def timed(self) -> dict[str, list[str]]:
        """Schedules that were timed in all rounds, by operator."""
        rounds: Counter[tuple[str, str]] = Counter()
        for visit in self.bench.store.visits(DEVICE.device_id, "operator"):
            if visit.purpose != "canary" and isinstance(visit.outcome, Timing):
                rounds[visit.subject, visit.schedule] += 1
        found: dict[str, list[str]] = defaultdict(list)
        for (subject, schedule), n_visits in rounds.items():
            assert n_visits == N_TUNING_ROUNDS
            found[subject].append(schedule)
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with Store.open(tmp_path / "store.sqlite") as store:
        store.register_device(DEVICE)
        artifacts = ArtifactStore(tmp_path / "artifacts")
        nobody: Any = None
        compilers = Compilers()  # that never start
        bench = Bench(nobody, DEVICE.device_id, TARGET, store, artifacts, tmp_path, compilers)
        made: Any = Desk(bench, ScriptedRunner())
        made.bench = replace(bench, device=made)
        monkeypatch.setattr(tuning, "build_kernels", made.build)
        yield made


def texts(operator: Operator) -> list[str]:
    return [schedule.text for schedule in candidates(operator, TARGET)]


def test_the_operators_of_these_tests_have_lists_to_choose_from() -> None:
    assert {len(texts(op)) for op in GEMMS} == {6}
    assert all(N_SHORT < len(texts(op)) <= N_LONG for op in GEMMS)
    assert all(len(texts(op)) <= N_SHORT for op in POOLS)


def test_lessons_come_first_and_everything_else_gets_a_short_list(desk: Desk) -> None:
    desk.tune([*GEMMS, *POOLS])
    timed = desk.timed()
    lengths = [len(timed[op.key]) for op in GEMMS]
    assert Counter(lengths) == {6: N_LESSONS, N_SHORT: len(GEMMS) - N_LESSONS}
    long = [index for index, length in enumerate(lengths) if length == 6]
    assert max(b - a for a, b in zip([0, *long], [*long, len(GEMMS)], strict=True)) <= 3
    for op in POOLS:
        assert sorted(timed[op.key]) == sorted(texts(op))
    # The ranking that chose the short lists had seen the lessons, and nothing else had been timed.
    (seen,) = desk.learned_from[1:] or desk.learned_from
    lessons = {GEMMS[index] for index in long}
    assert {trial.operator for trial in seen} == lessons | set(POOLS)
    for op in set(GEMMS) - lessons:
        assert sorted(timed[op.key]) == sorted(texts(op)[-N_SHORT:])


def test_lessons_of_an_earlier_run_are_not_taken_again(desk: Desk) -> None:
    desk.tune(GEMMS[:N_LESSONS])
    before = len(desk.built)
    desk.tune(GEMMS[N_LESSONS:], "measure")
    assert len(desk.built) - before == N_SHORT * (len(GEMMS) - N_LESSONS)


def test_once_lessons_were_taken_everything_is_built_at_once(desk: Desk) -> None:
    desk.tune(GEMMS[:N_LESSONS])
    desk.n_builds = 0
    desk.tune([*GEMMS, *POOLS])
    assert desk.n_builds == 2  # of up to 64 kernels: 16 short lists and the pools'


def test_exhaustive_tuning_times_every_candidate_and_asks_no_ranking(desk: Desk) -> None:
    desk.tune([*GEMMS, *POOLS], exhaustive=True)
    timed = desk.timed()
    assert {key: sorted(found) for key, found in timed.items()} == {
        op.key: sorted(texts(op)) for op in (*GEMMS, *POOLS)
    }
    assert desk.learned_from == []


def test_exhaustive_tuning_adds_what_a_short_list_left_out(desk: Desk) -> None:
    desk.tune(GEMMS)
    desk.tune(GEMMS, "measure", exhaustive=True)
    timed = desk.timed()  # each candidate three times: none of the short lists' again
    assert all(sorted(timed[op.key]) == sorted(texts(op)) for op in GEMMS)


@pytest.mark.parametrize("exhaustive", [False, True])
def test_a_second_run_builds_and_times_nothing(desk: Desk, *, exhaustive: bool) -> None:
    desk.tune([*GEMMS, *POOLS], exhaustive=exhaustive)
    n_built, n_visited = len(desk.built), len(desk.runner.visited)
    desk.learned_from.clear()
    for purpose in ("tune", "measure", "evaluate"):
        desk.tune([*POOLS, *GEMMS], purpose)  # type: ignore[arg-type]
    assert (len(desk.built), len(desk.runner.visited)) == (n_built, n_visited)
    assert desk.learned_from == []


@pytest.mark.parametrize("host_cores", [(), (0,), tuple(os.sched_getaffinity(0))])
def test_builds_go_on_beside_visits_where_a_core_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, host_cores: tuple[int, ...]
) -> None:
    monkeypatch.setattr(tuning, "KERNELS_AT_A_TIME", 8)
    monkeypatch.setattr(tuning, "KERNELS_PER_EXECUTABLE", 8)
    desk.host_cores = host_cores
    is_alone = set(host_cores) >= os.sched_getaffinity(0)
    operators = GEMMS[:N_LESSONS]
    n_all = sum(len(texts(op)) for op in operators)
    n_built = []

    def script(_: str, __: int) -> Timing:
        # The first visits wait for all builds, which would never end if builds waited for visits.
        while not is_alone and len(desk.built) < n_all:
            time.sleep(0.001)
        n_built.append(len(desk.built))
        return timing(100)

    desk.runner.script = script
    desk.tune(operators, exhaustive=True)
    assert len(desk.timed()) == len(operators)
    assert min(n_built) == (6 if is_alone else n_all)


def test_an_operators_candidates_are_visited_together() -> None:
    requests = [(op, schedule) for op in GEMMS for schedule in candidates(op, TARGET)]
    for n_most in (1, 6, 7, 64, 1000):
        parts = tuning.cut(requests, n_most)
        assert [request for part in parts for request in part] == requests
        assert all(len(part) <= max(n_most, 6) for part in parts)
        owners = [op for part in parts for op in {request[0] for request in part}]
        assert len(owners) == len(GEMMS)
    assert tuning.cut([], 8) == []


@pytest.mark.parametrize("n_before", [1, 40, 100, 200, 270])
def test_a_run_that_was_stopped_goes_on_with_what_it_began(desk: Desk, n_before: int) -> None:
    def stop(_: str, __: int) -> Timing:
        if len(desk.runner.items_visited) > n_before:
            raise KeyboardInterrupt
        return timing(100)

    desk.runner.script = stop
    with pytest.raises(KeyboardInterrupt):
        desk.tune(GEMMS)
    desk.runner.script = lambda *_: timing(100)
    begun = {
        (visit.subject, visit.schedule)
        for visit in desk.bench.store.visits(DEVICE.device_id, purposes={"tune"})
    }
    desk.tune(GEMMS)
    timed = desk.timed()
    assert set(timed) == {op.key for op in GEMMS}
    assert all(N_SHORT <= len(found) <= N_LONG for found in timed.values())
    assert begun <= {(key, text) for key, found in timed.items() for text in found}


def test_candidates_that_fail_are_replaced_by_the_next_ones(desk: Desk) -> None:
    desk.tune(GEMMS[:N_LESSONS])
    op = GEMMS[-1]
    order = Backwards().order(op, TARGET)
    crashing = name(op, order[1])
    desk.broken = {(op, order[0])}

    def script(kernel: str, _: int) -> Timing | Failure:
        return Failure("crash", "signal 11") if kernel == crashing else timing(100)

    desk.runner.script = script
    desk.tune([op])
    assert sorted(desk.timed()[op.key]) == sorted(schedule.text for schedule in order[2:6])
    n_built = len(desk.built)
    desk.tune([op])
    assert len(desk.built) == n_built


def test_the_schedule_of_an_operator_that_was_never_timed_is_the_rankings_first(
    desk: Desk,
) -> None:
    known, unknown = GEMMS[0], GEMMS[1]
    fastest = candidates(known, TARGET)[2]
    script: Callable[[str, int], Timing] = lambda kernel, _: timing(  # noqa: E731
        50 if kernel == name(known, fastest) else 100
    )
    desk.runner.script = script
    desk.tune([known])
    choose = OwnRuntime(desk.bench, TuningPolicy(desk.learn)).choose_schedule()
    assert choose(known) == fastest
    assert choose(unknown) == candidates(unknown, TARGET)[-1]
    choose_listed = OwnRuntime(desk.bench).choose_schedule()
    assert choose_listed(unknown) == candidates(unknown, TARGET)[0]
