"""The smallest change that a device can show, from series of the same thing measured twice.

A session is one visit in a fresh process: repetitions inside it share pages, caches and luck, so
the session is the unit. Two series of sessions of one program are interleaved in pairs, each pair
in random order; what both sessions of a pair share (the minute, the temperature, the neighbours)
falls out of the logarithm of their ratio. The median of these log-ratios is the estimate of a
change, because a few disturbed sessions do not move it. As nothing differs between the series,
the spread of the log-ratios is the noise that a change must rise above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtri

#: A change is shown when the two-sided interval of this confidence excludes none.
CONFIDENCE: Final = 0.95
#: A change that "can be detected" is shown this often.
POWER: Final = 0.8
#: Fewer pairs say nothing: six give the median a distribution-free interval of 95 % at all.
MIN_PAIRS: Final = 6
_N_RESAMPLES: Final = 2000

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detection:
    """What a device can show.

    Attributes:
        n_pairs: Pairs of sessions that it was found from.
        shift_percent: By how much the second series was slower than the first; chance alone.
        smallest_percent: The smallest change that as many pairs show, `POWER` of the times.
        low_percent, high_percent: Interval of that, of confidence `CONFIDENCE`.
    """

    n_pairs: int
    shift_percent: float
    smallest_percent: float
    low_percent: float
    high_percent: float

    def sessions_for(self, change_percent: float) -> int:
        """Sessions, of both series together, that show a change of so many percent.

        The standard error of a median falls with the square root of the number of samples
        (David & Nagaraja, Order Statistics, 3rd ed., section 10.3).
        """
        if change_percent <= 0:
            raise ValueError(f"change_percent must be > 0, got {change_percent}")
        ratio = math.log1p(self.smallest_percent / 100) / math.log1p(change_percent / 100)
        return 2 * max(MIN_PAIRS, math.ceil(self.n_pairs * ratio**2))


def find_detection(log_ratios: Sequence[float] | Array, rng: np.random.Generator) -> Detection:
    """The smallest change that the pairs can show.

    Two-sided test at confidence 0.95, found with a power of 0.8: z(0.975) + z(0.8) standard errors
    of the median (Cohen, Statistical Power Analysis, 2nd ed., section 2.4).

    Args:
        log_ratios: Logarithm of the second session's latency over the first's, shape (n_pairs,).
        rng: Draws the resamples for the interval.

    Raises:
        ValueError: fewer than `MIN_PAIRS`, or not finite.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    if len(values) < MIN_PAIRS or not np.isfinite(values).all():
        raise ValueError(f"log_ratios must be {MIN_PAIRS} or more finite numbers, got {values}")
    picked = rng.integers(len(values), size=(_N_RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(_smallest(values[picked]), [tail, 1 - tail])
    return Detection(
        n_pairs=len(values),
        shift_percent=_percent(float(np.median(values))),
        smallest_percent=_percent(float(_smallest(values[np.newaxis])[0])),
        low_percent=_percent(float(low)),
        high_percent=_percent(float(high)),
    )


def median_error(values: Array) -> Array:
    """Standard error of the median of each row: the bootstrap's, without drawing.

    Source: Maritz & Jarrett, A Note on Estimating the Variance of the Sample Median, JASA 73
    (1978); exact for an odd number of samples.

    Args:
        values: Shape (n_rows, n_samples).
    """
    n = values.shape[1]
    half = (n + 1) / 2
    weights = np.diff(betainc(half, half, np.linspace(0.0, 1.0, n + 1)))
    ordered = np.sort(values, axis=1)
    mean, square = ordered @ weights, ordered**2 @ weights
    error: Array = np.sqrt(np.maximum(square - mean**2, 0.0))
    return error


def _smallest(log_ratios: Array) -> Array:
    """Smallest change, as a logarithm, of each row of log-ratios.

    The series are the same, so each log-ratio is as likely as its negative: both are taken, which
    doubles the samples but not what is known.
    """
    error = math.sqrt(2) * median_error(np.concatenate([log_ratios, -log_ratios], axis=1))
    return float(ndtri((1 + CONFIDENCE) / 2) + ndtri(POWER)) * error


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(log_ratio)
