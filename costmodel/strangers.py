"""Kinds of operators that a device never ran: physics, and how far kinds stray from it.

The rule of the interval: each measured kind is predicted by the costs of a call, an operation and
a byte that all the *other* kinds show. What a whole kind is off by, in the middle, is how far a
kind strays; what its operators differ by beside that is how unlike one another they are. Few kinds
say little, so that two kinds' worth of experience from elsewhere is mixed in. Where a factor of
three either way is possible, networks must count on the one above: the variance is that of a
symmetric interval that reaches as high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from costmodel.roofline import Rates, Roofline, fit_rates
from profiler.operator import Operator

#: A kind strays by a factor of four, and its operators by two more, 19 times in 20.
_PRIOR_BETWEEN: Final = 0.7
_PRIOR_WITHIN: Final = 0.35
_N_PRIOR_KINDS: Final = 2
_Z: Final = 1.96  # of an interval that holds 19 of 20


@dataclass(frozen=True, slots=True)
class Strangers:
    """The latency of any operator, by physics alone.

    Attributes:
        rates: Sum of costs that all measured operators share.
        between: Standard deviation of what a kind's log latency is off by as a whole.
        within: The same of each operator beside its kind.
    """

    rates: Rates
    between: float
    within: float

    def predict(
        self, operators: Sequence[Operator]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log latency in microseconds (n,), and covariance of relative errors (n, n), of a kind."""
        size = len(operators)
        covariance = np.full((size, size), self.between**2) + self.within**2 * np.eye(size)
        sd = np.hypot(self.between, self.within)
        reach = np.expm1(_Z * sd) / (_Z * sd)
        return self.rates.log_us(operators), covariance * reach**2


def fit_strangers(
    operators: Sequence[Operator], log_us: NDArray[np.float64], roofline: Roofline
) -> Strangers:
    """Fit what all kinds share, and how far each one strays from the others.

    Args:
        operators: Measured operators, at least one.
        log_us: Natural logarithm of the latency in place, shape (n_operators,).
        roofline: The device.
    """
    kinds = np.array([op.kind for op in operators])
    strays, rest = [], [np.zeros(0)]
    for kind in sorted(set(kinds.tolist())):
        is_own = kinds == kind
        if is_own.all():
            break
        others = [op for op, own in zip(operators, is_own, strict=True) if not own]
        members = [op for op, own in zip(operators, is_own, strict=True) if own]
        rates = fit_rates(others, np.exp(log_us[~is_own]), roofline)
        error = log_us[is_own] - rates.log_us(members)
        strays.append(float(np.median(error)))
        rest.append(error - strays[-1])
    own = np.concatenate(rest)
    return Strangers(
        fit_rates(operators, np.exp(log_us), roofline),
        _mixed_sd(np.array(strays), _PRIOR_BETWEEN),
        _mixed_sd(own, _PRIOR_WITHIN),
    )


def _mixed_sd(errors: NDArray[np.float64], prior: float) -> float:
    squares = float(np.sum(errors**2)) + _N_PRIOR_KINDS * prior**2
    return float(np.sqrt(squares / (len(errors) + _N_PRIOR_KINDS)))
