from __future__ import annotations

from dataclasses import dataclass

import pytest
from ranking_curve import LENGTHS, by_operator, leave_out, regrets

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import candidates
from profiler.target import Target
from profiler.tunings import ListOrder, Trial

TARGET = Target("x86_64-linux-gnu", "x86-64-v3", vector_bytes=32)
GEMMS = [Operator("conv2d", (1, 56, 56, 24), width) for width in (96, 112)]


def trials(operator: Operator, *alone_us: float) -> list[Trial]:
    found = candidates(operator, TARGET)
    return [
        Trial("here", TARGET, operator, schedule, us)
        for schedule, us in zip(found, alone_us, strict=False)
    ]


@dataclass(frozen=True)
class Backwards:
    def order(self, operator: Operator, target: Target) -> tuple[Schedule, ...]:
        return candidates(operator, target)[::-1]


def test_a_regret_is_the_best_of_the_first_over_the_best_of_all() -> None:
    assert LENGTHS == (1, 2, 4, 8)
    members = trials(GEMMS[0], 12, 15, 11, 13, 14, 10)
    assert len(members) == len(candidates(GEMMS[0], TARGET))
    assert regrets(ListOrder(), members) == pytest.approx([0.2, 0.2, 0.1, 0.0])
    assert regrets(Backwards(), members) == pytest.approx([0.0, 0.0, 0.0, 0.0])


def test_operators_that_were_timed_in_part_are_left_out() -> None:
    whole, part = trials(GEMMS[0], *range(1, 9)), trials(GEMMS[1], 1, 2, 3)
    assert by_operator([*whole, *part]) == {GEMMS[0]: whole}


def test_an_operator_is_judged_by_what_was_learned_from_other_folds() -> None:
    groups = by_operator([t for op in GEMMS for t in trials(op, 12, 15, 11, 13, 14, 10)])
    assert list(groups) == GEMMS
    seen = []

    def learn(shown: object) -> Backwards:
        seen.append(shown)
        return Backwards()

    found = leave_out(groups, learn, lambda op: op.out_channels)  # type: ignore[arg-type]
    assert seen == [groups[GEMMS[1]], groups[GEMMS[0]]]
    assert [row[0] for row in found["learned"]] == [0.0, 0.0]
    assert [row[0] for row in found["list"]] == pytest.approx([0.2, 0.2])
