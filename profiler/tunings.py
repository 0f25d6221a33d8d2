"""What tuning has shown on any device, and how that says which candidates to try first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from profiler.operator import Operator
from profiler.schedules import space
from profiler.schedules.schedule import Schedule
from profiler.store import Purpose, Store
from profiler.target import Target, target_of

#: Visits that a ranking may learn from; those of `evaluate` judge a model that builds on it.
LEARNING_PURPOSES: Final[frozenset[Purpose]] = frozenset({"tune", "measure"})


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate of an operator that was timed somewhere.

    Attributes:
        device_id: Where.
        target: What its code was generated for.
        operator, schedule: What was timed.
        alone_us: Median latency, called again and again.
    """

    device_id: str
    target: Target
    operator: Operator
    schedule: Schedule
    alone_us: float


class Ranking(Protocol):
    """Says which candidates are likely the fastest, without timing them."""

    def order(self, operator: Operator, target: Target) -> tuple[Schedule, ...]:
        """All candidates of an operator, the most promising first."""


#: Makes a ranking of what was tried; equal trials make equal rankings.
LearnRanking = Callable[[Sequence[Trial]], Ranking]


@dataclass(frozen=True, slots=True)
class ListOrder:
    """The order in which the rules of `profiler.schedules` list their candidates."""

    def order(self, operator: Operator, target: Target) -> tuple[Schedule, ...]:
        """See `Ranking`."""
        return space.candidates(operator, target)


def learn_nothing(_: Sequence[Trial]) -> Ranking:
    """The ranking of who has nothing to learn with."""
    return ListOrder()


@dataclass(frozen=True, slots=True)
class TuningPolicy:
    """How a runtime chooses among candidates.

    Attributes:
        learn: Makes the ranking that short lists begin with.
        is_exhaustive: Whether every candidate is timed.
    """

    learn: LearnRanking = learn_nothing
    is_exhaustive: bool = False


#: Short lists in the order of the rules.
LISTED: Final = TuningPolicy()


def read_trials(store: Store, runtime_name: str, purposes: Collection[Purpose]) -> list[Trial]:
    """Every candidate that was timed on any device with the schedules of this version.

    Args:
        store: Measurements of all devices.
        runtime_name: Devices of another runtime run other code.
        purposes: Visits that count.

    Returns:
        By device, operator and schedule.
    """
    trials = []
    for device in sorted(store.devices(), key=lambda each: each.device_id):
        versions = dict(device.runtime.versions)
        if device.runtime.name != runtime_name or versions.get("schedules") != str(space.VERSION):
            continue
        rows = store.candidate_latencies(device.device_id, purposes)
        if not rows:
            continue
        target = target_of(device.board, device.runtime.threads)
        trials += [
            Trial(device.device_id, target, row.operator, row.schedule, row.alone_us)
            for row in rows
        ]
    return trials
