"""What people use instead of a latency model, fitted as well as they can be on the same data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from costmodel.prediction import Prediction, check_confidence
from costmodel.roofline import fit_roofline
from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.operator import Operator

#: A cost of each operator, in any unit: shape (n_operators,).
OperatorCost = Callable[[Sequence[Operator]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A cost of each operator, summed, with a slope and an intercept.

    Attributes:
        name: `flops`, `roofline` or `lookup`.
        cost: The cost of each operator.
        slope, intercept_us: From the sum of costs to microseconds.
        relative_sd: Root mean square of the relative training residuals, for the fit's degrees
            of freedom.
        n_networks: Networks in the fit.
    """

    name: str
    cost: OperatorCost
    slope: float
    intercept_us: float
    relative_sd: float
    n_networks: int

    def predict_us(
        self, networks: Sequence[Sequence[Operator]], confidence: float = 0.95
    ) -> Prediction:
        """Predict whole networks; arrays of shape (n_networks,)."""
        check_confidence(confidence)
        mean = self.intercept_us + self.slope * _totals(self.cost, networks)
        sigma = self.relative_sd * np.abs(mean)
        half = sigma * float(t.ppf(0.5 + confidence / 2, max(self.n_networks - 2, 1)))
        return Prediction(mean, sigma, mean - half, mean + half, confidence)


def fit_baselines(
    operators: Sequence[OperatorLatency], networks: Sequence[NetworkLatency]
) -> tuple[Baseline, ...]:
    """Fit the FLOPs line, the roofline and the lookup table.

    Args:
        operators: Each measured operator once; at least one.
        networks: The whole networks on which slopes and intercepts are fitted; with fewer than
            two the slope is 1 (of the FLOPs line: the operators' own rate) and nothing is added.
    """
    measured = [row.operator for row in operators]
    alone = np.array([row.alone_us for row in operators])
    in_place = np.array([row.in_place_us or row.alone_us for row in operators])
    roofline = fit_roofline(measured, in_place)
    rate = float(in_place.sum()) / max(sum(op.n_flops for op in measured), 1)
    tables = [
        _fit_line("lookup", _look_up(measured, latency), networks) for latency in (in_place, alone)
    ]
    return (
        _fit_line("flops", lambda ops: rate * _flops(ops), networks),
        _fit_line("roofline", roofline.roofline_us, networks),
        min(tables, key=lambda table: table.relative_sd),
    )


def _fit_line(name: str, cost: OperatorCost, networks: Sequence[NetworkLatency]) -> Baseline:
    """Least squares of the relative error, the measure by which baselines are judged."""
    if len(networks) < 2:
        return Baseline(name, cost, 1.0, 0.0, 0.3, len(networks))
    totals = _totals(cost, [row.operators for row in networks])
    latency_us = np.array([row.latency_us for row in networks])
    rows = np.stack([totals, np.ones(len(totals))], axis=1) / latency_us[:, None]
    (slope, intercept_us), *_ = np.linalg.lstsq(rows, np.ones(len(totals)), rcond=None)
    errors = rows @ np.array([slope, intercept_us]) - 1.0
    relative_sd = float(np.sqrt(np.sum(errors**2) / max(len(errors) - 2, 1)))
    return Baseline(name, cost, float(slope), float(intercept_us), relative_sd, len(networks))


def _totals(cost: OperatorCost, networks: Sequence[Sequence[Operator]]) -> NDArray[np.float64]:
    distinct = tuple(dict.fromkeys(op for operators in networks for op in operators))
    prices = dict(zip(distinct, cost(distinct).tolist(), strict=True)) if distinct else {}
    return np.array([sum(prices[op] for op in operators) for operators in networks])


def _look_up(measured: Sequence[Operator], latency_us: NDArray[np.float64]) -> OperatorCost:
    table: dict[Operator, float] = dict(zip(measured, latency_us.tolist(), strict=True))

    def price(operator: Operator) -> float:
        if operator in table:
            return table[operator]
        same_kind = [op for op in measured if op.kind == operator.kind] or list(measured)
        nearest = min(same_kind, key=lambda op: _distance(op, operator))
        return table[nearest] * _work(operator) / _work(nearest)

    return lambda operators: np.array([price(op) for op in operators])


def _work(operator: Operator) -> float:
    """Multiply-accumulates, or bytes for kinds without them."""
    return float(operator.n_macs or operator.input_bytes + operator.output_bytes)


def _distance(left: Operator, right: Operator) -> float:
    """City-block distance between the logarithms of shapes, kernels and strides."""

    def sizes(op: Operator) -> NDArray[np.float64]:
        shape = (*op.input_shape, op.out_channels, *op.kernel, *op.stride)
        return np.log2(np.array(shape, dtype=np.float64))

    same_epilogue = 0.0 if left.epilogue == right.epilogue else 0.1
    return float(np.abs(sizes(left) - sizes(right)).sum()) + same_epilogue


def _flops(operators: Sequence[Operator]) -> NDArray[np.float64]:
    return np.array([op.n_flops for op in operators], dtype=np.float64)
