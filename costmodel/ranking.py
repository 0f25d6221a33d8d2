"""Which candidate of an operator is likely the fastest: LightGBM on what was timed anywhere.

Rows are grouped by operator and device; a group's fastest candidate is its zero, so that neither
the size of an operator nor the speed of a board has to be learned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from costmodel.tiling import compute_tiling_features
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import candidates
from profiler.target import Target
from profiler.tunings import ListOrder, Ranking, Trial

#: Operators of a rule with several candidates timed, below which its list's own order stands.
N_LEAST_OPERATORS: Final = 6
#: A candidate this much slower than the fastest (e^1) is as bad as any.
_MOST_LOG_RATIO: Final = 1.0
_N_ROUNDS: Final = 150
_SETTINGS: Final[dict[str, Any]] = {
    "objective": "regression",
    "num_leaves": 15,
    "min_data_in_leaf": 8,
    "learning_rate": 0.08,
    "lambda_l2": 1.0,
    "feature_fraction": 0.7,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "seed": 1,
    "verbose": -1,
}


@dataclass(frozen=True, slots=True)
class TreeRanking:
    """A ranking that was learned.

    Attributes:
        booster: Predicts the logarithm of a candidate's latency over that of the fastest one.
        n_operators: Operators that it learned from, of each rule.
    """

    booster: Any
    n_operators: Mapping[str, int]

    def order(self, operator: Operator, target: Target) -> tuple[Schedule, ...]:
        """See `profiler.tunings.Ranking`; ties keep the order of the list."""
        found = candidates(operator, target)
        if len(found) == 1 or self.n_operators.get(found[0].rule, 0) < N_LEAST_OPERATORS:
            return found
        features = compute_tiling_features(operator, target, found)
        scores = self.booster.predict(features, num_threads=1)
        return tuple(found[index] for index in np.argsort(scores, kind="stable"))


@dataclass(frozen=True, slots=True)
class Samples:
    """What a ranking learns from.

    Attributes:
        features: Shape (n_samples, n_features).
        log_ratios: Natural logarithm of the latency over the group's least, shape (n_samples,).
        n_operators: Groups of each rule.
    """

    features: NDArray[np.float64]
    log_ratios: NDArray[np.float64]
    n_operators: Mapping[str, int]


def collect_samples(trials: Sequence[Trial]) -> Samples | None:
    """Group trials by device and operator; None where no group has two that are still candidates.

    A candidate is described beside the whole list of its operator, however few were timed.
    """
    groups: dict[tuple[str, Operator], list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.device_id, trial.operator].append(trial)
    features, log_ratios = [], []
    n_operators: Counter[str] = Counter()
    for (_, operator), members in groups.items():
        target = members[0].target
        found = candidates(operator, target)
        latency_us = {trial.schedule: trial.alone_us for trial in members}
        timed = [index for index, schedule in enumerate(found) if schedule in latency_us]
        if len(timed) < 2:
            continue
        features.append(compute_tiling_features(operator, target, found)[timed])
        logs = np.log([latency_us[found[index]] for index in timed])
        log_ratios.append(np.minimum(logs - logs.min(), _MOST_LOG_RATIO))
        n_operators[found[0].rule] += 1
    if not features:
        return None
    return Samples(np.concatenate(features), np.concatenate(log_ratios), n_operators)


def learn_ranking(trials: Sequence[Trial]) -> Ranking:
    """Learn which candidates are fast; with too few trials the lists' own order stands.

    A pure function: equal trials in equal order make equal rankings.
    """
    samples = collect_samples(trials)
    if samples is None or max(samples.n_operators.values()) < N_LEAST_OPERATORS:
        return ListOrder()
    data = lightgbm.Dataset(samples.features, samples.log_ratios, params=_SETTINGS)
    return TreeRanking(lightgbm.train(_SETTINGS, data, _N_ROUNDS), samples.n_operators)
