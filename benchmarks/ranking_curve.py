"""How much slower the best of a short list is than the best of all, for operators left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from profiler.operator import Operator
from profiler.schedules.space import candidates
from profiler.tunings import LearnRanking, ListOrder, Ranking, Trial

LENGTHS = (1, 2, 4, 8)
N_FOLDS = 10


def by_operator(trials: Sequence[Trial]) -> dict[Operator, list[Trial]]:
    """Trials of operators of which every candidate was timed, and there are several."""
    found: dict[Operator, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[trial.operator].append(trial)
    return {op: members for op, members in found.items() if len(members) > 1 and _is_whole(members)}


def _is_whole(members: Sequence[Trial]) -> bool:
    wanted = candidates(members[0].operator, members[0].target)
    return {trial.schedule for trial in members} >= set(wanted)


def regrets(ranking: Ranking, members: Sequence[Trial]) -> list[float]:
    """Of one operator, for each of `LENGTHS`: the best of the first so many over the best, less 1.

    Shape (n_lengths,).
    """
    latency_us = {trial.schedule: trial.alone_us for trial in members}
    order = ranking.order(members[0].operator, members[0].target)
    best_us = min(latency_us[schedule] for schedule in order)
    return [min(latency_us[s] for s in order[:n]) / best_us - 1.0 for n in LENGTHS]


def leave_out(
    groups: dict[Operator, list[Trial]], learn: LearnRanking, fold_of: Callable[[Operator], object]
) -> dict[str, Any]:
    """Judge each operator by a ranking that learned from all folds but its own.

    Returns:
        By `list` and `learned`, one row of `regrets` for each operator in order of `groups`.
    """
    folds = {op: fold_of(op) for op in groups}
    learned: dict[Operator, list[float]] = {}
    for fold in dict.fromkeys(folds.values()):
        ranking = learn([t for op, ts in groups.items() if folds[op] != fold for t in ts])
        for op, members in groups.items():
            if folds[op] == fold:
                learned[op] = regrets(ranking, members)
    return {
        "list": [regrets(ListOrder(), members) for members in groups.values()],
        "learned": [learned[op] for op in groups],
    }


def dealt(groups: dict[Operator, list[Trial]]) -> Callable[[Operator], object]:
    """Ten folds of operators, dealt at random, always alike."""
    deal = np.random.default_rng(0).permutation(len(groups)) % N_FOLDS
    folds = dict(zip(groups, deal.tolist(), strict=True))
    return folds.__getitem__


def summary(found: dict[str, Any]) -> list[str]:
    """Lines for a person: median, 95th percentile and worst, in percent, for each length."""
    lines = []
    for way in ("list", "learned"):
        table = 100 * np.array(found[way])
        for column, n in enumerate(LENGTHS):
            middle, high = np.percentile(table[:, column], [50, 95])
            lines.append(
                f"{way:8s} first {n}: median {middle:.1f} %, 95th percentile {high:.1f} %, "
                f"worst {table[:, column].max():.0f} %"
            )
    return lines
