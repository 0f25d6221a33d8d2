"""Operators: LightGBM on log latency, one model a kind, over a smooth physical base.

A tree cannot interpolate between kernel 3 and kernel 7, nor go beyond the widest operator it
saw. So each kind has a sum of costs (`Rates`), a smooth surface through what that leaves
(`SmoothFit`), and trees that learn what is left of *held-out* operators: ragged tiles, schedule
and epilogue effects. The first two are the trees' init_score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import TooFewMeasurementsError
from costmodel.features import SMOOTH_COLUMNS, columns
from costmodel.groups import partition_operators
from costmodel.roofline import Rates, Roofline, fit_rates
from costmodel.smooth import SmoothFit, fit_smooth
from costmodel.strangers import Strangers, fit_strangers
from costmodel.trees import Trees, cross_fit_trees
from profiler.operator import KINDS, Operator

#: A kind with fewer samples shares one model with all kinds.
MIN_SAMPLES: Final = 6
N_FOLDS: Final = 5
_SMOOTH: Final = columns(SMOOTH_COLUMNS)


@dataclass(frozen=True, slots=True)
class KindModel:
    """The latency of one kind of operator, or of all kinds pooled.

    Attributes:
        rates: Sum of costs.
        smooth: What is added to its logarithm.
        trees: What LightGBM adds to that.
        inflation: Factor on the standard deviations of `smooth`, from held-out operators.
        is_pooled: Whether it was fitted to all kinds, told apart by extra columns.
    """

    rates: Rates
    smooth: SmoothFit
    trees: Trees
    inflation: float
    is_pooled: bool

    def predict(
        self, operators: Sequence[Operator], features: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean of the log latency (n,) and covariance (n, n)."""
        inputs = _inputs(operators, features, self.is_pooled)
        mean = self.rates.log_us(operators) + self.smooth.predict(inputs[:, : _width(self)])
        covariance = self.smooth.covariance(inputs[:, : _width(self)])
        return mean + self.trees.predict(_all(inputs, features)), covariance * self.inflation**2


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One fold of operators predicted by models that never saw them.

    Attributes:
        partition: Which way of grouping operators dealt this fold.
        members: Positions of the operators, shape (n,).
        error: Measured minus predicted log latency, shape (n,).
        covariance: What the model believed of that error, shape (n, n).
    """

    partition: int
    members: NDArray[np.intp]
    error: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperatorModel:
    """Latencies of operators on one device.

    Attributes:
        kinds: A model for each kind with enough samples.
        pooled: The model of the others.
        pooled_kinds: Kinds that have samples, but too few.
        strangers: The model of kinds that have none.
    """

    kinds: Mapping[str, KindModel]
    pooled: KindModel
    pooled_kinds: tuple[str, ...]
    strangers: Strangers

    def predict_log(
        self, operators: Sequence[Operator], features: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict natural logarithms of microseconds.

        Returns:
            Mean, shape (n_operators,), and covariance, shape (n_operators, n_operators).
        """
        mean = np.zeros(len(operators))
        covariance = np.zeros((len(operators), len(operators)))
        for kind in dict.fromkeys(op.kind for op in operators):
            index = np.array([i for i, op in enumerate(operators) if op.kind == kind])
            members = [operators[i] for i in index]
            mean[index], block = self._predict_kind(kind, members, features[index])
            covariance[np.ix_(index, index)] = block
        return mean, covariance

    def _predict_kind(
        self, kind: str, operators: Sequence[Operator], features: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if kind in self.kinds:
            return self.kinds[kind].predict(operators, features)
        if kind in self.pooled_kinds:
            return self.pooled.predict(operators, features)
        return self.strangers.predict(operators)


def fit_operators(
    operators: Sequence[Operator],
    features: NDArray[np.float64],
    log_us: NDArray[np.float64],
    roofline: Roofline,
    rng: np.random.Generator,
) -> tuple[OperatorModel, tuple[HeldOut, ...]]:
    """Fit every kind, and predict every operator from folds that leave its group out.

    Args:
        operators: Measured operators, each once.
        features: Shape (n_operators, n_features).
        log_us: Natural logarithm of the latency in place, shape (n_operators,).
        roofline: Rates to which small samples are pulled.
        rng: Deals folds.
    """
    if not operators:
        raise TooFewMeasurementsError("a cost model needs at least 1 measured operator, got 0")
    partitions = partition_operators(operators, N_FOLDS, rng)
    everything = np.arange(len(operators))
    pooled, pooled_folds = _fit_kind(
        operators, features, log_us, roofline, partitions, rng, is_pooled=True
    )
    kinds: dict[str, KindModel] = {}
    pooled_kinds: list[str] = []
    held_out: list[list[HeldOut]] = []
    for kind in sorted({op.kind for op in operators}):
        index = everything[[op.kind == kind for op in operators]]
        if len(index) < MIN_SAMPLES:
            pooled_kinds.append(kind)
            held_out.append([_only(fold, index) for fold in pooled_folds])
            continue
        members = [operators[i] for i in index]
        own = tuple(folds[index] for folds in partitions)
        kinds[kind], folds = _fit_kind(
            members, features[index], log_us[index], roofline, own, rng, is_pooled=False
        )
        held_out.append([replace(f, members=index[f.members]) for f in folds])
    joined = tuple(_join(parts) for parts in zip(*held_out, strict=True))
    strangers = fit_strangers(operators, log_us, roofline)
    return OperatorModel(kinds, pooled, tuple(pooled_kinds), strangers), joined


def _fit_kind(
    operators: Sequence[Operator],
    features: NDArray[np.float64],
    log_us: NDArray[np.float64],
    roofline: Roofline,
    partitions: tuple[NDArray[np.intp], ...],
    rng: np.random.Generator,
    *,
    is_pooled: bool,
) -> tuple[KindModel, list[HeldOut]]:
    rates = fit_rates(operators, np.exp(log_us), roofline)
    inputs = _inputs(operators, features, is_pooled)
    residual = log_us - rates.log_us(operators)
    smooth = fit_smooth(inputs, residual, rng)
    errors = np.zeros((len(partitions), len(operators)))
    held_out: list[HeldOut] = []
    for row, folds in enumerate(partitions):
        for fold in range(N_FOLDS):
            members = np.flatnonzero(folds == fold)
            error, covariance = smooth.leave_out(members)
            errors[row, members] = error
            held_out.append(HeldOut(row, members, error, covariance))
    trees, corrections = cross_fit_trees(_all(inputs, features), errors, partitions)
    left = [replace(h, error=h.error - corrections[h.partition, h.members]) for h in held_out]
    inflation = float(
        np.median([_inflate([h for h in left if h.partition == p]) for p in range(len(partitions))])
    )
    folded = [replace(h, covariance=h.covariance * inflation**2) for h in left]
    return KindModel(rates, smooth, trees, inflation, is_pooled), folded


def _inflate(folds: Sequence[HeldOut]) -> float:
    """Root mean square of the held-out errors in units of what was believed, at least 0.7."""
    scores = np.concatenate([h.error / np.sqrt(np.diag(h.covariance)) for h in folds])
    # Ten samples' worth of the prior 1, and no single error counts for more than 4 sigma.
    squares = np.minimum(np.abs(scores), 4.0) ** 2
    return max(0.7, float(np.sqrt((squares.sum() + 10.0) / (len(squares) + 10.0))))


def _inputs(
    operators: Sequence[Operator], features: NDArray[np.float64], is_pooled: bool
) -> NDArray[np.float64]:
    smooth = features[:, _SMOOTH]
    if not is_pooled:
        return smooth
    flags = np.array([[float(op.kind == kind) for kind in KINDS] for op in operators])
    return np.hstack([smooth, 2.0 * flags])


def _width(model: KindModel) -> int:
    return len(model.smooth.center)


def _all(inputs: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of the trees: all features, and for a pooled model the kind."""
    return np.hstack([features, inputs[:, len(_SMOOTH) :]])


def _only(fold: HeldOut, wanted: NDArray[np.intp]) -> HeldOut:
    keep = np.flatnonzero(np.isin(fold.members, wanted))
    return HeldOut(
        fold.partition, fold.members[keep], fold.error[keep], fold.covariance[np.ix_(keep, keep)]
    )


def _join(parts: Sequence[HeldOut]) -> HeldOut:
    sizes = [len(part.members) for part in parts]
    covariance = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        covariance[start : start + size, start : start + size] = part.covariance
        start += size
    return HeldOut(
        parts[0].partition,
        np.concatenate([part.members for part in parts]),
        np.concatenate([part.error for part in parts]),
        covariance,
    )
