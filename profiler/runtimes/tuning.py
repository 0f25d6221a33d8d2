"""Which candidates of an operator are timed, and the timing of them.

A ranking of all that was timed before, on any device, says which few are worth it. Where nothing of
their kind was timed for a target yet, longer lists of some operators come first: lessons, from
which the ranking for the others is learned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from devices.device import Failure
from profiler.bench import TUNING_PURPOSES, Bench, StageProgress, staged
from profiler.build import BuildFailure, Kernel, build_kernels
from profiler.measure import OPERATOR_PLAN, Item
from profiler.operator import Operator
from profiler.program import alone, assemble
from profiler.runtime import Linked, visit
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import candidates, default_schedule
from profiler.store import Purpose, Visit
from profiler.tunings import (
    LEARNING_PURPOSES,
    ListOrder,
    Ranking,
    Trial,
    TuningPolicy,
    read_trials,
)

NAME: Final = "latloop"
KERNELS_PER_EXECUTABLE: Final = 256
#: Visits to each candidate.
N_TUNING_ROUNDS: Final = 3
#: Candidates that are timed of an operator once others of its kind have been.
N_SHORT: Final = 4
#: The same of the lessons.
N_LONG: Final = 8
#: Lessons of each rule and target: tuned operators with more than `N_SHORT` candidates timed.
N_LESSONS: Final = 8
#: Operators that are tuned before the ranking learns from them.
N_OPERATORS_A_BATCH: Final = 64
#: A second attempt replaces candidates that failed in the first.
_N_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class History:
    """What was timed of each operator on a device already.

    Attributes:
        begun, finished: Schedules' texts by the operator's key: of any visit, and of all.
        failed: Those that do not compile or do not run.
    """

    begun: Mapping[str, frozenset[str]]
    finished: Mapping[str, frozenset[str]]
    failed: Mapping[str, frozenset[str]]

    def is_done(self, operator: Operator, choices: Sequence[Schedule], n_wanted: int) -> bool:
        """Whether so many candidates were timed, or all that do not fail, and none half-way."""
        texts = {schedule.text for schedule in choices}
        sound = texts - self.failed.get(operator.key, frozenset())
        finished = sound & self.finished.get(operator.key, frozenset())
        begun = sound & self.begun.get(operator.key, frozenset())
        return begun == finished and len(finished) >= min(n_wanted, len(sound))

    def choose(
        self, operator: Operator, order: Sequence[Schedule], n_wanted: int
    ) -> list[Schedule]:
        """What is left to time of an operator's list: all that was begun, and the first others."""
        failed = self.failed.get(operator.key, frozenset())
        begun = self.begun.get(operator.key, frozenset())
        finished = self.finished.get(operator.key, frozenset())
        sound = [schedule for schedule in order if schedule.text not in failed]
        sound.sort(key=lambda schedule: schedule.text not in begun)  # stable
        n_begun = sum(schedule.text in begun for schedule in sound)
        chosen = sound[: max(n_wanted, n_begun)]
        return [schedule for schedule in chosen if schedule.text not in finished]


def read_history(bench: Bench) -> History:
    """What the store holds of the tuning of a bench's device."""
    rounds: dict[tuple[str, str], dict[tuple[str, str], set[int]]] = defaultdict(dict)
    for purpose in TUNING_PURPOSES:
        for key in bench.store.rounds_done(bench.device_id, purpose):
            of_kernels = rounds[key.subject, key.schedule]
            of_kernels.setdefault((purpose, key.kernel), set()).add(key.round_index)
    begun: dict[str, set[str]] = defaultdict(set)
    finished: dict[str, set[str]] = defaultdict(set)
    failed: dict[str, set[str]] = defaultdict(set)
    for (subject, schedule), of_kernels in rounds.items():
        begun[subject].add(schedule)
        if any(done.issuperset(range(N_TUNING_ROUNDS)) for done in of_kernels.values()):
            finished[subject].add(schedule)
    for subject, schedule, _ in bench.store.failed_kernels(bench.device_id):
        failed[subject].add(schedule)
    return History(_frozen(begun), _frozen(finished), _frozen(failed))


def _frozen(sets: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {key: frozenset(values) for key, values in sets.items()}


def learn_ranking(bench: Bench, policy: TuningPolicy) -> Ranking:
    """The ranking of all that the store holds of devices that run our kernels."""
    return policy.learn(read_trials(bench.store, NAME, LEARNING_PURPOSES))


@dataclass(frozen=True, slots=True)
class Tuning:
    """The tuning of operators on one device.

    Attributes:
        bench: The device.
        policy: How candidates are chosen.
        link: Puts kernels and the canary's into one executable.
        purpose: Why the visits are made.
        rng: Shuffles them.
        progress: Called as work goes on.
    """

    bench: Bench
    policy: TuningPolicy
    link: Callable[[Sequence[Kernel]], Linked]
    purpose: Purpose
    rng: np.random.Generator
    progress: StageProgress

    def tune(self, operators: Sequence[Operator]) -> None:
        """Time a list of candidates of each operator that has none yet; resumes."""
        attempts: Counter[Operator] = Counter()
        choices = {op: candidates(op, self.bench.target) for op in dict.fromkeys(operators)}
        while True:
            history = read_history(self.bench)
            waiting = {
                op: found
                for op, found in choices.items()
                if attempts[op] < _N_ATTEMPTS
                and not history.is_done(op, found, self._n_wanted(found))
            }
            if not waiting:
                return
            requests = []
            for op, chosen in self._next_batch(waiting, history):
                attempts[op] += 1
                requests += [(op, schedule) for schedule in chosen]
            self._time(requests)

    def _n_wanted(self, found: Sequence[Schedule]) -> int:
        return len(found) if self.policy.is_exhaustive else N_SHORT

    def _next_batch(
        self, waiting: Mapping[Operator, Sequence[Schedule]], history: History
    ) -> list[tuple[Operator, list[Schedule]]]:
        """What is timed next: what needs no ranking, and lessons, or short lists without them."""
        if self.policy.is_exhaustive:
            return [(op, history.choose(op, found, len(found))) for op, found in waiting.items()]
        trials = read_trials(self.bench.store, NAME, LEARNING_PURPOSES)
        plain = [op for op, found in waiting.items() if len(found) <= N_SHORT]
        long = [op for op in waiting if len(waiting[op]) > N_SHORT]
        lessons = self._choose_lessons(long, trials, history)
        lists = dict.fromkeys(plain, N_SHORT)
        if lessons:
            lists |= dict.fromkeys(lessons, N_LONG)
        else:
            lists |= dict.fromkeys(long[:N_OPERATORS_A_BATCH], N_SHORT)
        needs_ranking = any(len(waiting[op]) > n for op, n in lists.items())
        ranking = self.policy.learn(trials) if needs_ranking else ListOrder()
        target = self.bench.target
        return [(op, history.choose(op, ranking.order(op, target), n)) for op, n in lists.items()]

    def _choose_lessons(
        self, operators: Sequence[Operator], trials: Sequence[Trial], history: History
    ) -> list[Operator]:
        """Operators from which a ranking for the others is learned: of each rule the first begun.

        The others are spread over the list, so that they differ: neighbours in a network are alike.
        """
        target = self.bench.target
        n_timed = Counter(
            (trial.device_id, trial.operator) for trial in trials if trial.target == target
        )
        waiting = set(operators)
        n_taught = Counter(
            default_schedule(op, target).rule
            for op in {op for (_, op), count in n_timed.items() if count > N_SHORT}
            if op not in waiting
        )
        by_rule: dict[str, list[Operator]] = defaultdict(list)
        for op in sorted(operators, key=lambda op: op.key not in history.begun):
            by_rule[default_schedule(op, target).rule].append(op)
        lessons: list[Operator] = []
        for rule, found in by_rule.items():
            n_lessons = min(N_LESSONS - n_taught[rule], len(found))
            n_begun = sum(op.key in history.begun for op in found[: max(n_lessons, 0)])
            rest, n_rest = found[n_begun:], n_lessons - n_begun
            lessons += found[:n_begun]
            lessons += [rest[index * len(rest) // n_rest] for index in range(n_rest)]
        return lessons

    def _time(self, requests: Sequence[tuple[Operator, Schedule]]) -> None:
        """Build candidates and visit each; what does not compile becomes a row of the store."""
        built = build_kernels(
            requests,
            self.bench.target,
            self.bench.artifacts,
            lambda done, n: self.progress("compile", done, n),
        )
        self._record_build_failures(built)
        kernels = [kernel for kernel in built if isinstance(kernel, Kernel)]
        for start in range(0, len(kernels), KERNELS_PER_EXECUTABLE):
            batch = kernels[start : start + KERNELS_PER_EXECUTABLE]
            visit(
                self.bench,
                lambda batch=batch: self.link(batch),  # type: ignore[misc]  # binds this batch
                [operator_item(kernel) for kernel in batch],
                self.purpose,
                N_TUNING_ROUNDS,
                self.rng,
                staged(
                    self.progress,
                    "time kernels",
                    start * N_TUNING_ROUNDS,
                    len(kernels) * N_TUNING_ROUNDS,
                ),
            )

    def _record_build_failures(self, built: Sequence[Kernel | BuildFailure]) -> None:
        visits = [
            Visit(
                device_id=self.bench.device_id,
                subject_kind="operator",
                subject=failure.operator.key,
                kernel="",
                schedule=failure.schedule.text,
                purpose=self.purpose,
                round_index=0,
                plan=OPERATOR_PLAN,
                outcome=Failure("build_error", failure.detail),
            )
            for failure in built
            if isinstance(failure, BuildFailure)
        ]
        if visits:
            self.bench.store.append(visits)


def operator_item(kernel: Kernel) -> Item:
    """An operator's kernel, timed alone and hot."""
    program = assemble(alone(kernel.operator), {kernel.operator: kernel})
    return Item(
        subject_kind="operator",
        subject=kernel.operator.key,
        kernel=kernel.name,
        schedule=kernel.schedule.text,
        operators=(),
        workload=program.workload,
        plan=OPERATOR_PLAN,
    )
