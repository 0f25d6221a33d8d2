"""How good predictions are on networks that were never measured before: pure statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from costmodel.baselines import fit_baselines
from costmodel.latency import LatencyModel
from costmodel.prediction import Prediction
from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.network import count_operators

_N_RESAMPLES: Final = 2000


@dataclass(frozen=True, slots=True)
class FamilyErrors:
    """Errors on the networks of one family.

    Attributes:
        n_networks: Networks judged.
        median_ape_percent: Median absolute percentage error.
        median_ape_low_percent, median_ape_high_percent: 95 % bootstrap interval of that median.
        within_5_percent, within_10_percent: Share of networks with at most that error, percent.
        coverage_percent: Share of networks inside their interval.
        half_width_percent: Median half width of the intervals over the prediction.
        spearman: Rank correlation of predicted and measured, or None where it has no meaning.
    """

    n_networks: int
    median_ape_percent: float
    median_ape_low_percent: float
    median_ape_high_percent: float
    within_5_percent: float
    within_10_percent: float
    coverage_percent: float
    half_width_percent: float
    spearman: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Errors by family, of the model and of each baseline: (name, errors) pairs.

    Networks with operators that nobody measured are judged once more as `FAMILY_unseen`.
    """

    families: tuple[tuple[str, FamilyErrors], ...]
    baselines: tuple[tuple[str, tuple[tuple[str, FamilyErrors], ...]], ...]


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """The error of a model fitted to part of the measurements, over all test networks."""

    n_operators: int
    n_networks: int
    errors: FamilyErrors


def judge(
    prediction: Prediction, measured_us: NDArray[np.float64], rng: np.random.Generator
) -> FamilyErrors:
    """Compare predictions with measurements, each of shape (n_networks,).

    Raises:
        ValueError: there is no network, or the shapes differ.
    """
    if not len(measured_us) or prediction.mean_us.shape != measured_us.shape:
        raise ValueError(
            f"need one prediction for each of at least 1 measured network, got "
            f"{prediction.mean_us.shape} and {measured_us.shape}"
        )
    ape = 100 * np.abs(prediction.mean_us / measured_us - 1)
    drawn = rng.integers(0, len(ape), size=(_N_RESAMPLES, len(ape)))
    low, high = np.quantile(np.median(ape[drawn], axis=1), [0.025, 0.975])
    inside = (measured_us >= prediction.low_us) & (measured_us <= prediction.high_us)
    half = (prediction.high_us - prediction.low_us) / 2 / np.abs(prediction.mean_us)
    return FamilyErrors(
        n_networks=len(ape),
        median_ape_percent=float(np.median(ape)),
        median_ape_low_percent=float(low),
        median_ape_high_percent=float(high),
        within_5_percent=100 * float(np.mean(ape <= 5)),
        within_10_percent=100 * float(np.mean(ape <= 10)),
        coverage_percent=100 * float(np.mean(inside)),
        half_width_percent=100 * float(np.median(half)),
        spearman=_spearman(prediction.mean_us, measured_us),
    )


def evaluate(
    model: LatencyModel,
    operators: Sequence[OperatorLatency],
    networks: Sequence[NetworkLatency],
    test: Sequence[NetworkLatency],
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Evaluation:
    """Judge a model, and baselines fitted to the same data, on networks outside of it.

    Args:
        model: Fitted to `operators` and `networks`.
        operators: Measured operators of the fit.
        networks: Whole networks of the fit.
        test: Measured networks that are not among `networks`.
        rng: Resamples errors.
        confidence: Of the intervals.
    """
    groups = _group(model, test)
    counts = count_operators([row.operators for row in test])
    ours = model.predict_networks_us(counts, confidence)
    baselines = [
        (b.name, b.predict_us([row.operators for row in test], confidence))
        for b in fit_baselines(operators, networks)
    ]
    measured_us = np.array([row.latency_us for row in test])

    def by_family(prediction: Prediction) -> tuple[tuple[str, FamilyErrors], ...]:
        return tuple(
            (name, judge(_take(prediction, index), measured_us[index], rng))
            for name, index in groups.items()
        )

    return Evaluation(by_family(ours), tuple((name, by_family(p)) for name, p in baselines))


def learn_curve(
    fit: Callable[[Sequence[OperatorLatency], Sequence[NetworkLatency]], LatencyModel],
    operators: Sequence[OperatorLatency],
    networks: Sequence[NetworkLatency],
    test: Sequence[NetworkLatency],
    shares: Sequence[float],
    rng: np.random.Generator,
) -> tuple[LearningPoint, ...]:
    """Refit on growing random parts of the measurements.

    Every kind keeps one operator at least, so that each network can be priced.

    Args:
        fit: Fits a model to a part.
        operators: All measured operators.
        networks: All measured networks of which parts are used.
        test: Measured networks that are not among `networks`.
        shares: Parts between 0 and 1, each nested in the next larger one.
        rng: Orders the measurements.
    """
    order = _kinds_first(operators, rng)
    network_order = rng.permutation(len(networks))
    n_kinds = len({row.operator.kind for row in operators})
    counts = count_operators([row.operators for row in test])
    measured_us = np.array([row.latency_us for row in test])
    points = []
    for share in shares:
        if not 0 < share <= 1:
            raise ValueError(f"shares must lie in (0, 1], got {share}")
        kept = [operators[i] for i in order[: max(n_kinds, round(share * len(order)))]]
        whole = [networks[i] for i in network_order[: round(share * len(networks))]]
        prediction = fit(kept, whole).predict_networks_us(counts)
        points.append(LearningPoint(len(kept), len(whole), judge(prediction, measured_us, rng)))
    return tuple(points)


def _kinds_first(operators: Sequence[OperatorLatency], rng: np.random.Generator) -> list[int]:
    """A random order in which one operator of every kind comes first."""
    order = rng.permutation(len(operators)).tolist()
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(operators[index].operator.kind, index)
    heads = set(first.values())
    return [*first.values(), *(index for index in order if index not in heads)]


def _group(model: LatencyModel, test: Sequence[NetworkLatency]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(test):
        groups.setdefault(row.family, []).append(index)
        if model.unseen(row.operators):
            groups.setdefault(f"{row.family}_unseen", []).append(index)
    return dict(sorted(groups.items()))


def _take(prediction: Prediction, index: Sequence[int]) -> Prediction:
    return Prediction(
        prediction.mean_us[index],
        prediction.sigma_us[index],
        prediction.low_us[index],
        prediction.high_us[index],
        prediction.confidence,
    )


def _spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    ranks = rankdata(left), rankdata(right)
    if min(np.ptp(ranks[0]), np.ptp(ranks[1])) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
