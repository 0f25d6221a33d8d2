"""The device as three numbers: arithmetic peak, memory bandwidth and cost of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import TooFewMeasurementsError
from costmodel.features import total_bytes
from profiler.operator import Operator

#: Where a fit without evidence stays: one GFLOP/s and one GB/s, 0.1 us a call.
_SLOWEST: Final = np.log([1.0, 1.0, 1e-3])
_FASTEST: Final = np.log([1e6, 1e5, 1e4])
#: Multiplications in the time of an exponential or the like: polynomials of degree 5 to 13 and
#: some care for the range.
_COSTLY_FLOPS: Final = 10


@dataclass(frozen=True, slots=True)
class Roofline:
    """Peak, bandwidth and overhead of one device.

    Attributes:
        peak_gflops: Arithmetic throughput, in 1e9 operations a second.
        bandwidth_gbps: Memory throughput, in 1e9 bytes a second.
        overhead_us: What every call costs, however small.
    """

    peak_gflops: float
    bandwidth_gbps: float
    overhead_us: float

    def __post_init__(self) -> None:
        if min(self.peak_gflops, self.bandwidth_gbps) <= 0 or self.overhead_us < 0:
            raise ValueError(f"a roofline needs rates > 0 and an overhead >= 0, got {self}")

    def roofline_us(self, operators: Sequence[Operator]) -> NDArray[np.float64]:
        """Latency of each operator if it ran as fast as the device allows.

        Returns:
            Microseconds, shape (n_operators,).
        """
        flops, n_bytes = _amounts(operators)
        # The roofline model, Williams, Waterman and Patterson 2009, plus a cost of the call;
        # 1e3 operations a microsecond are 1 GFLOP/s.
        bound = np.maximum(flops / self.peak_gflops, n_bytes / self.bandwidth_gbps) / 1e3
        return np.asarray(self.overhead_us + bound)


@dataclass(frozen=True, slots=True)
class Rates:
    """One kind's latency as a sum: cost of a call, of each operation, of each byte.

    Attributes:
        coefficients: (us a call, us a million operations, us a million bytes), each >= 0.
    """

    coefficients: tuple[float, float, float]

    def log_us(self, operators: Sequence[Operator]) -> NDArray[np.float64]:
        """Natural logarithm of the latency in microseconds, shape (n_operators,)."""
        return np.asarray(np.log(_terms(operators) @ np.array(self.coefficients)))


def fit_roofline(operators: Sequence[Operator], latency_us: NDArray[np.float64]) -> Roofline:
    """Fit peak, bandwidth and overhead to measured operators, by relative error.

    Args:
        operators: What was measured.
        latency_us: Shape (n_operators,).

    Raises:
        TooFewMeasurementsError: there is no operator.
    """
    from scipy.optimize import least_squares  # noqa: PLC0415  # see `fit_rates`

    if not operators:
        raise TooFewMeasurementsError("a roofline needs at least 1 measured operator, got 0")
    flops, n_bytes = _amounts(operators)
    log_latency = np.log(latency_us)

    def residual(log_values: NDArray[np.float64]) -> NDArray[np.float64]:
        roofline = Roofline(*np.exp(log_values).tolist())
        return np.asarray(np.log(roofline.roofline_us(operators)) - log_latency)

    start = np.log(
        [
            max(float(np.max(flops / latency_us)) / 1e3, 2.0),
            max(float(np.max(n_bytes / latency_us)) / 1e3, 2.0),
            max(float(np.min(latency_us)) / 2, 2e-3),
        ]
    )
    start = np.clip(start, _SLOWEST + 1e-6, _FASTEST - 1e-6)
    # The soft absolute loss keeps one badly compiled operator from moving the roof.
    found = least_squares(residual, start, bounds=(_SLOWEST, _FASTEST), loss="soft_l1", f_scale=0.2)
    return Roofline(*np.exp(found.x).tolist())


def fit_rates(
    operators: Sequence[Operator], latency_us: NDArray[np.float64], roofline: Roofline
) -> Rates:
    """Fit one kind's sum of costs by relative error, pulled to the roofline's rates.

    Args:
        operators: Measured operators of one kind (or of all, for a pooled fit).
        latency_us: Shape (n_operators,).
        roofline: The device; a kind with few samples stays near it.
    """
    from scipy.optimize import nnls  # noqa: PLC0415  # who only predicts does not wait for it

    prior = np.array(
        [roofline.overhead_us, 1e3 / roofline.peak_gflops, 1e3 / roofline.bandwidth_gbps]
    )
    terms = _terms(operators)
    pull = np.diag(0.1 / prior)  # a hundredth of one sample's weight for each coefficient
    rows = np.vstack([terms / latency_us[:, None], pull])
    wanted = np.concatenate([np.ones(len(operators)), np.full(3, 0.1)])
    coefficients, _ = nnls(rows, wanted)
    # A positive cost of a call keeps the logarithm finite for an operator without work.
    coefficients[0] = max(coefficients[0], 1e-3)
    return Rates((float(coefficients[0]), float(coefficients[1]), float(coefficients[2])))


def _amounts(
    operators: Sequence[Operator],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    flops = np.array([_n_operations(op) for op in operators], dtype=np.float64)
    n_bytes = np.array([total_bytes(op) for op in operators], dtype=np.float64)
    return flops, n_bytes


def _n_operations(operator: Operator) -> int:
    traits = None if operator.body is None else operator.body.traits
    n_costly = 0 if traits is None else traits.n_transcendentals
    return operator.n_flops + _COSTLY_FLOPS * n_costly


def _terms(operators: Sequence[Operator]) -> NDArray[np.float64]:
    flops, n_bytes = _amounts(operators)
    return np.stack([np.ones(len(operators)), flops / 1e6, n_bytes / 1e6], axis=1)
