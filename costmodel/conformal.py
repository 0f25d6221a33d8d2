"""Intervals that cover as often as they claim, calibrated on networks left out of the fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from costmodel.model import HeldOut
from costmodel.network import quadratic_forms
from costmodel.network_fit import LeftOut
from costmodel.prediction import Prediction, check_confidence

#: Scores of a standard normal that are mixed in where there are too few of our own.
_PRIOR_SCORES: Final = 4
_REFERENCE: Final = 0.95
#: Pairs of a network and a fold below which operators are not recalibrated.
_LEAST_PAIRS: Final = 20
_LEAST_UNSEEN, _MOST_UNSEEN = 0.7, 4.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """How errors on left-out networks compare with what was believed of them.

    Attributes:
        scores: |error| over believed standard deviation, ascending, shape (n_networks,).
        unseen_factor: Factor on the standard deviation of operators that nobody measured.
        drift: Relative standard deviation of the board's speed between the fit and a proof.
    """

    scores: NDArray[np.float64]
    unseen_factor: float
    drift: float = 0.0

    def quantile(self, confidence: float) -> float:
        """Half-width of the interval in believed standard deviations.

        The finite-sample quantile of jackknife conformal prediction (Barber, Candes, Ramdas and
        Tibshirani 2021, Eq. 2.5 applied to normalised residuals); where there are fewer scores
        than it needs, Student's quantile times the scores' size.
        """
        check_confidence(confidence)
        n_scores = len(self.scores)
        rank = math.ceil((n_scores + 1) * confidence)
        if rank <= n_scores:
            return float(self.scores[rank - 1])
        freedom = n_scores + _PRIOR_SCORES
        size = math.sqrt((float(np.sum(self.scores**2)) + _PRIOR_SCORES) / freedom)
        return size * float(stdtrit(freedom, 0.5 + confidence / 2))

    def bound(
        self,
        mean_us: NDArray[np.float64],
        variance: NDArray[np.float64],
        unseen_variance: NDArray[np.float64],
        confidence: float,
    ) -> Prediction:
        """Turn believed variances, each of shape (n,), into calibrated intervals."""
        quantile = self.quantile(confidence)
        moved = self.drift * mean_us
        half = np.hypot(
            _half_width(self, variance, unseen_variance, quantile, confidence),
            _z(confidence) * moved,
        )
        reference = self.quantile(_REFERENCE)
        sigma = _half_width(self, variance, unseen_variance, reference, _REFERENCE)
        return Prediction(
            mean_us=mean_us,
            sigma_us=np.hypot(sigma / _z(_REFERENCE), moved),
            low_us=_low_us(mean_us, half),
            high_us=mean_us + half,
            confidence=confidence,
        )


def calibrate(
    left_out: LeftOut,
    counts: NDArray[np.float64],
    mean_us: NDArray[np.float64],
    folds: Sequence[HeldOut],
) -> Calibration:
    """Calibrate on left-out networks, and on the same networks without some operators.

    Args:
        left_out: Every measured network as predicted without it.
        counts: Shape (n_networks, n_operators); the first columns are the measured operators.
        mean_us: Labels of the measured operators, shape (n_measured,).
        folds: The measured operators as predicted without their groups.
    """
    scores = np.sort(np.abs(left_out.error_us) / np.sqrt(left_out.variance))
    known = Calibration(scores, 1.0)
    factors = [
        factor
        for partition in sorted({fold.partition for fold in folds})
        for factor in _partition_factor(
            known, left_out, counts, mean_us, [f for f in folds if f.partition == partition]
        )
    ]
    # One grouping may ask for the impossible, such as a slope from one kernel size: the median
    # of the groupings is what a new network usually brings.
    return Calibration(scores, float(np.median(factors))) if factors else known


def _partition_factor(
    known: Calibration,
    left_out: LeftOut,
    counts: NDArray[np.float64],
    mean_us: NDArray[np.float64],
    folds: Sequence[HeldOut],
) -> tuple[float, ...]:
    """The factor that one grouping of operators asks for; none from too few networks."""
    errors, variances, unseen = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for fold in folds:
        # The fold's operators cost mean_us; their models said mean_us * exp(-error).
        own = counts[:, fold.members] * mean_us[fold.members]
        guessed = own * np.exp(-fold.error)
        holds = own.sum(axis=1) > 0
        errors.append((left_out.error_us + (own - guessed).sum(axis=1))[holds])
        variances.append(left_out.variance[holds])
        unseen.append(quadratic_forms(guessed[holds], fold.covariance))
    joined = np.abs(np.concatenate(errors))
    if len(joined) < _LEAST_PAIRS:
        return ()
    return (_unseen_factor(known, joined, np.concatenate(variances), np.concatenate(unseen)),)


def _unseen_factor(
    known: Calibration,
    errors: NDArray[np.float64],
    variances: NDArray[np.float64],
    unseen: NDArray[np.float64],
) -> float:
    """The factor with which 95 % of the networks without some operators are covered."""
    from scipy.optimize import brentq  # noqa: PLC0415  # who only predicts does not wait for it

    quantile = known.quantile(_REFERENCE)

    def shortfall(factor: float) -> float:
        half = _half_width(Calibration(known.scores, factor), variances, unseen, quantile, 0.95)
        return float(np.quantile(errors / half, _REFERENCE)) - 1.0

    if shortfall(_LEAST_UNSEEN) <= 0:
        return _LEAST_UNSEEN
    if shortfall(_MOST_UNSEEN) >= 0:
        return _MOST_UNSEEN
    return float(brentq(shortfall, _LEAST_UNSEEN, _MOST_UNSEEN, xtol=1e-3))


def _half_width(
    calibration: Calibration,
    variance: NDArray[np.float64],
    unseen_variance: NDArray[np.float64],
    quantile: float,
    confidence: float,
) -> NDArray[np.float64]:
    unseen = (_z(confidence) * calibration.unseen_factor) ** 2 * np.maximum(unseen_variance, 0.0)
    return np.asarray(np.sqrt(quantile**2 * variance + unseen))


def _low_us(mean_us: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower end of an interval; a latency is never 0, however little is known of it.

    What may be slower by a factor is taken to be faster by its square at most; below a half width
    of 62 % the interval is symmetric.
    """
    mean_us = np.maximum(mean_us, 1e-9)
    return np.asarray(np.maximum(mean_us - half, mean_us / (1.0 + half / mean_us) ** 2))


def _z(confidence: float) -> float:
    return float(ndtri(0.5 + confidence / 2))
