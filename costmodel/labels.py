"""What an operator costs inside a network, for operators timed only alone too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from costmodel.features import columns
from profiler.measurement import OperatorLatency
from profiler.operator import KINDS, Operator

_COLUMNS: Final = columns(
    ["log_working_set_l1", "log_working_set_l2", "weights_over_l2", "log_kernel_area"]
)
# Field notes, "What adds up": in place over alone has median 1.03 and a 90th percentile of 1.15.
_PRIOR_LOG_RATIO: Final = 0.03
_PRIOR_SD: Final = 0.06


@dataclass(frozen=True, slots=True)
class Labels:
    """The latency of each measured operator in place.

    Attributes:
        log_us: Natural logarithm of microseconds, shape (n_operators,).
        log_sd: Its standard deviation, shape (n_operators,).
        is_direct: True where the latency in place was measured, shape (n_operators,).
    """

    log_us: NDArray[np.float64]
    log_sd: NDArray[np.float64]
    is_direct: NDArray[np.bool_]


def label_operators(measured: Sequence[OperatorLatency], features: NDArray[np.float64]) -> Labels:
    """Take the latency in place, or the one alone times what in-place costs operators like it.

    Args:
        measured: Measured operators.
        features: Shape (n_operators, n_features), as `compute_features` makes them.
    """
    alone = np.log([row.alone_us for row in measured])
    in_place = np.log([row.in_place_us or np.nan for row in measured])
    is_direct = np.isfinite(in_place)
    design = _design([row.operator for row in measured], features)
    ratio = np.full(len(measured), _PRIOR_LOG_RATIO)
    ratio_sd = _PRIOR_SD
    if is_direct.any():
        observed = (in_place - alone)[is_direct]
        weights, ratio_sd = _fit_ratio(design[is_direct], observed)
        ratio = np.clip(
            _PRIOR_LOG_RATIO + design @ weights,
            min(observed.min(), _PRIOR_LOG_RATIO),
            max(observed.max(), _PRIOR_LOG_RATIO),
        )
    spread = np.array([row.relative_spread for row in measured])
    log_sd = np.where(is_direct, spread, np.hypot(spread, ratio_sd))
    return Labels(np.where(is_direct, in_place, alone + ratio), log_sd, is_direct)


def _design(operators: Sequence[Operator], features: NDArray[np.float64]) -> NDArray[np.float64]:
    kinds = np.array([[float(op.kind == kind) for kind in KINDS] for op in operators])
    return np.hstack([np.ones((len(operators), 1)), kinds, features[:, _COLUMNS]])


def _fit_ratio(
    design: NDArray[np.float64], observed: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Ridge regression of the log ratio around its prior: weights and residual sd."""
    penalty = np.array([0.1] + [1.0] * len(KINDS) + [3.0] * len(_COLUMNS))
    target = observed - _PRIOR_LOG_RATIO
    weights = np.linalg.solve(design.T @ design + np.diag(penalty), design.T @ target)
    # Four samples' worth of the prior: a handful of ratios says little about their spread.
    squares = float(np.sum((target - design @ weights) ** 2)) + 4 * _PRIOR_SD**2
    return np.asarray(weights, dtype=np.float64), float(np.sqrt(squares / (len(observed) + 4)))
