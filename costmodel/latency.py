"""The latency model of one device: operators and whole networks, with honest intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from costmodel.conformal import Calibration, calibrate
from costmodel.drift import estimate_drift
from costmodel.errors import TooFewMeasurementsError
from costmodel.features import ChooseSchedule, compute_feature_matrix, compute_features
from costmodel.labels import label_operators
from costmodel.model import OperatorModel, fit_operators
from costmodel.network import NetworkPosterior, OperatorCosts, OperatorPrior
from costmodel.network_fit import fit_networks
from costmodel.prediction import Prediction
from costmodel.roofline import Roofline, fit_roofline
from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.network import OperatorCounts
from profiler.operator import Operator
from profiler.target import Target

# Of a label beside the spread of its sessions: neighbours in a network change how warm an
# operator's input is. Field notes: in-chain timings add up within 2 %.
_LEAST_LABEL_SD = 0.02


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Predicts latencies on one device.

    Attributes:
        device_id: Names the board with its runtime.
        target: What code is generated for on this device.
        roofline: The device as three numbers.
        operators: Predicts operators that nobody measured.
        networks: Costs of known operators, corrected by whole networks.
        calibration: Makes the intervals honest.
        measured: The operators that were measured on the device.
        n_networks: Whole networks in the fit.
        choose_schedule: The schedule that an operator nobody measured would get.
    """

    device_id: str
    target: Target
    roofline: Roofline
    operators: OperatorModel = field(repr=False)
    networks: NetworkPosterior = field(repr=False)
    calibration: Calibration = field(repr=False)
    measured: tuple[Operator, ...] = field(repr=False)
    n_networks: int
    choose_schedule: ChooseSchedule

    @classmethod
    def fit(
        cls,
        operators: Sequence[OperatorLatency],
        networks: Sequence[NetworkLatency],
        target: Target,
        device_id: str,
        choose_schedule: ChooseSchedule,
        rng: np.random.Generator,
    ) -> LatencyModel:
        """Learn one device from what was measured there.

        Args:
            operators: Each measured operator once.
            networks: Whole measured networks, of any families; none is allowed.
            target: What the measured code was generated for.
            device_id: Names the device.
            choose_schedule: Chooses without measuring, for operators that nobody measured.
            rng: Deals operators to folds.

        Raises:
            TooFewMeasurementsError: there is no measured operator.
        """
        _check(operators, networks)
        own, features = _label(operators, target)
        roofline = fit_roofline(own.operators, own.mean_us)
        model, folds = fit_operators(own.operators, features, np.log(own.mean_us), roofline, rng)
        others = _others(own.operators, (op for row in networks for op in row.operators))
        prior = _join(own, predict_prior(model, others, target, choose_schedule))
        counts = count_columns(networks, prior.operators)
        latency_us = np.array([row.latency_us for row in networks])
        posterior, left_out = fit_networks(prior, counts, latency_us)
        calibration = replace(
            calibrate(left_out, counts, own.mean_us, folds), drift=estimate_drift(networks)
        )
        known, n_networks = own.operators, len(networks)
        return cls(
            device_id, target, roofline, model, posterior, calibration, known, n_networks,
            choose_schedule,
        )  # fmt: skip

    @property
    def fixed_us(self) -> float:
        """What every network costs beside the sum of `predict_operators_us`."""
        return self.networks.fixed_us

    def predict_operators_us(
        self, operators: Sequence[Operator], confidence: float = 0.95
    ) -> Prediction:
        """Predict what each operator adds to a network.

        Returns:
            Arrays of shape (n_operators,), in input order. The means add up: a network's mean
            is `fixed_us` plus the sum over its operators.
        """
        distinct = tuple(dict.fromkeys(operators))
        costs = self._price(distinct)
        variance = np.maximum(np.diag(costs.known_covariance), 0.0)
        unseen = np.zeros(len(distinct))
        unseen[costs.unseen] = np.diag(costs.unseen_covariance)
        position = {op: index for index, op in enumerate(distinct)}
        index = np.array([position[op] for op in operators], dtype=np.intp)
        return self.calibration.bound(
            costs.mean_us[index], variance[index], unseen[index], confidence
        )

    def predict_networks_us(self, counts: OperatorCounts, confidence: float = 0.95) -> Prediction:
        """Predict many whole networks at once.

        Returns:
            Arrays of shape (n_networks,), in the order of the rows.
        """
        mean, variance, unseen = self.networks.predict(counts.counts, self._price(counts.operators))
        return self.calibration.bound(mean, variance, unseen, confidence)

    def unseen(self, operators: Sequence[Operator]) -> tuple[Operator, ...]:
        """The operators that were never measured on this device, each once, in input order.

        An operator that only whole measured networks held counts as measured.
        """
        known = set(self.networks.prior.operators)
        return tuple(op for op in dict.fromkeys(operators) if op not in known)

    def _price(self, operators: tuple[Operator, ...]) -> OperatorCosts:
        new = _others(self.networks.prior.operators, operators)
        prior = predict_prior(self.operators, new, self.target, self.choose_schedule)
        return self.networks.price(operators, prior)


def _label(
    measured: Sequence[OperatorLatency], target: Target
) -> tuple[OperatorPrior, NDArray[np.float64]]:
    """Measured operators with their latencies in place, and their features."""
    features = np.array([compute_features(r.operator, target, r.schedule) for r in measured])
    labels = label_operators(measured, features)
    variance = np.hypot(labels.log_sd, _LEAST_LABEL_SD) ** 2
    operators = tuple(row.operator for row in measured)
    return OperatorPrior(operators, np.exp(labels.log_us), np.diag(variance)), features


def predict_prior(
    model: OperatorModel,
    operators: tuple[Operator, ...],
    target: Target,
    choose_schedule: ChooseSchedule,
) -> OperatorPrior:
    """What is believed of operators that nobody measured."""
    features = compute_feature_matrix(operators, target, choose_schedule)
    log_us, covariance = model.predict_log(operators, features)
    return OperatorPrior(operators, np.exp(log_us), covariance)


def count_columns(
    networks: Sequence[NetworkLatency], operators: Sequence[Operator]
) -> NDArray[np.float64]:
    """How often each network holds each operator, shape (n_networks, n_operators)."""
    position = {op: index for index, op in enumerate(operators)}
    counts = np.zeros((len(networks), len(operators)))
    for row, network in enumerate(networks):
        for op in network.operators:
            counts[row, position[op]] += 1
    return counts


def _others(known: Sequence[Operator], operators: Iterable[Operator]) -> tuple[Operator, ...]:
    seen = set(known)
    return tuple(op for op in dict.fromkeys(operators) if op not in seen)


def _join(left: OperatorPrior, right: OperatorPrior) -> OperatorPrior:
    size = len(left.operators)
    total = size + len(right.operators)
    covariance = np.zeros((total, total))
    covariance[:size, :size] = left.relative_covariance
    covariance[size:, size:] = right.relative_covariance
    return OperatorPrior(
        left.operators + right.operators,
        np.concatenate([left.mean_us, right.mean_us]),
        covariance,
    )


def _check(operators: Sequence[OperatorLatency], networks: Sequence[NetworkLatency]) -> None:
    if not operators:
        raise TooFewMeasurementsError("a latency model needs at least 1 measured operator, got 0")
    if len({row.operator for row in operators}) != len(operators):
        raise ValueError("each operator may be measured once in the fit, got repetitions")
    for row in operators:
        values = [row.alone_us] if row.in_place_us is None else [row.alone_us, row.in_place_us]
        if not all(np.isfinite(value) and value > 0 for value in values):
            raise ValueError(f"latency of {row.operator.key} must be > 0, got {values}")
    for network in networks:
        if not (np.isfinite(network.latency_us) and network.latency_us > 0):
            raise ValueError(f"latency of {network.name} must be > 0, got {network.latency_us}")
