"""What a model says of a latency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """Latencies with intervals, in microseconds, arrays of shape (n,).

    Attributes:
        mean_us: Expected latency.
        sigma_us: Calibrated standard deviation: `mean_us + z * sigma_us` is an honest bound,
            z the normal quantile of the wanted confidence.
        low_us, high_us: Interval that holds a new measurement with `confidence`.
        confidence: Between 0 and 1.
    """

    mean_us: NDArray[np.float64]
    sigma_us: NDArray[np.float64]
    low_us: NDArray[np.float64]
    high_us: NDArray[np.float64]
    confidence: float

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        shapes = {a.shape for a in (self.mean_us, self.sigma_us, self.low_us, self.high_us)}
        if len(shapes) != 1:
            raise ValueError(f"a prediction's arrays must have one shape, got {sorted(shapes)}")


def check_confidence(confidence: float) -> None:
    """Refuse what is not a probability strictly between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
