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
_N_DRAWS: Final = 2000
#: For the interval: so many calibrations, each drawn from again so often.
_N_CALIBRATIONS, _N_DRAWS_EACH = 200, 200

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
    """The smallest change that the pairs can show; its interval from resampled calibrations.

    Args:
        log_ratios: Logarithm of the second session's latency over the first's, shape (n_pairs,).
        rng: Draws the resamples.

    Raises:
        ValueError: fewer than `MIN_PAIRS`, or not finite.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    if len(values) < MIN_PAIRS or not np.isfinite(values).all():
        raise ValueError(f"log_ratios must be {MIN_PAIRS} or more finite numbers, got {values}")
    again = [
        smallest_change(rng.choice(values, len(values)), rng, _N_DRAWS_EACH)
        for _ in range(_N_CALIBRATIONS)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(again, [tail, 1 - tail])
    return Detection(
        n_pairs=len(values),
        shift_percent=_percent(float(np.median(values))),
        smallest_percent=_percent(smallest_change(values, rng)),
        low_percent=_percent(float(low)),
        high_percent=_percent(float(high)),
    )


def smallest_change(log_ratios: Array, rng: np.random.Generator, n_draws: int = _N_DRAWS) -> float:
    """The smallest change, as a logarithm, that a test on as many pairs shows `POWER` of the times.

    The test says that there is a change where the median of the log-ratios is further from zero
    than z(0.975) of its own standard errors. So a change c is shown in a series of median m and
    standard error s when m + c > z s, and the answer is a quantile of z s - m over many series.
    They are drawn, with replacement, from the pairs: no normal distribution is assumed, because
    the log-ratios of a restless board have several modes and wild values. The two series of a
    calibration are the same, so each log-ratio is as likely as its negative, and both are drawn.

    Args:
        log_ratios: As for `find_detection`.
        rng: Draws.
        n_draws: How many series.
    """
    pooled = np.concatenate([log_ratios, -log_ratios])
    series = rng.choice(pooled, (n_draws, len(log_ratios)))
    threshold = float(ndtri((1 + CONFIDENCE) / 2)) * median_error(series)
    return float(np.quantile(threshold - np.median(series, axis=1), POWER))


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


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(log_ratio)
