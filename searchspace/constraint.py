"""Limits on predicted latency and on memory, and how people type them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_LATENCY: Final = re.compile(r"\s*(\S+?)\s*(us|µs|ms|s)\s*", re.IGNORECASE)
_US_PER_UNIT: Final = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_RULE: Final = "a latency is a positive number with a unit (900us, 8ms, 1.2s)"
_MEMORY: Final = re.compile(
    r"\s*(\d+\.?\d*|\.\d+)\s*([kMG]?B|[KMG]iB)\s*", re.IGNORECASE | re.ASCII
)
_BYTES_PER_UNIT: Final = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_MEMORY_RULE: Final = (
    "an amount of memory is a positive number with a unit, B, kB, MB, GB (of 1000) or KiB, MiB, "
    "GiB (of 1024), such as 320kB"
)


def parse_latency_us(text: str) -> float:
    """Read a latency such as `8ms`, `900us` or `1.2s` as microseconds.

    Raises:
        ValueError: no unit, not a number, or not positive and finite; names value and rule.
    """
    match = _LATENCY.fullmatch(text)
    if match is None:
        raise ValueError(f"{_RULE}, got {text!r}")
    try:
        number = float(match[1])
    except ValueError:
        raise ValueError(f"{_RULE}, got {text!r}") from None
    latency_us = number * _US_PER_UNIT[match[2].lower()]
    if not (math.isfinite(latency_us) and latency_us > 0):
        raise ValueError(f"{_RULE}, got {text!r}")
    return latency_us


@dataclass(frozen=True, slots=True)
class LatencyLimit:
    """A chance constraint: the latency stays within the limit with this confidence.

    Attributes:
        limit_us: Microseconds, positive.
        confidence: One-sided, in [0.5, 1).
    """

    limit_us: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit_us) and self.limit_us > 0):
            raise ValueError(f"limit_us must be a positive number, got {self.limit_us}")
        if not 0.5 <= self.confidence < 1.0:
            raise ValueError(f"confidence must lie in [0.5, 1), got {self.confidence}")

    @classmethod
    def parse(cls, text: str, confidence: float = 0.95) -> LatencyLimit:
        """Read the limit as a person types it; raises ValueError as `parse_latency_us` does."""
        return cls(parse_latency_us(text), confidence)

    @property
    def z(self) -> float:
        """The normal quantile of the confidence."""
        return float(ndtri(self.confidence))

    def upper_us(
        self, mean_us: NDArray[np.float64], sigma_us: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The latency that is kept with the confidence, in microseconds, elementwise."""
        upper: NDArray[np.float64] = mean_us + self.z * sigma_us
        return upper

    def is_met(
        self, mean_us: NDArray[np.float64], sigma_us: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Whether mean + z sigma <= limit, elementwise; NaN never meets a limit."""
        met: NDArray[np.bool_] = self.upper_us(mean_us, sigma_us) <= self.limit_us
        return met


def parse_memory_bytes(text: str) -> int:
    """Read an amount of memory such as `320kB`, `1.5MiB` or `900 B` as bytes, rounded down.

    Raises:
        ValueError: no unit, not a number, or less than a byte; names value and rule.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"{_MEMORY_RULE}, got {text!r}")
    n_bytes = Decimal(match[1]) * _BYTES_PER_UNIT[match[2].lower()]
    if n_bytes < 1:
        raise ValueError(f"{_MEMORY_RULE}, got {text!r}")
    return int(n_bytes)


def format_memory(n_bytes: int) -> str:
    """An amount of memory for people, in decimal units and exact: `401.408 kB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= factor:
            return f"{(Decimal(n_bytes) / factor).normalize():f} {unit}"
    return f"{n_bytes} B"


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A hard constraint: the activations take at most so many bytes at once.

    Attributes:
        limit_bytes: At least 1.
    """

    limit_bytes: int

    def __post_init__(self) -> None:
        if self.limit_bytes < 1:
            raise ValueError(f"limit_bytes must be >= 1, got {self.limit_bytes}")

    @classmethod
    def parse(cls, text: str) -> MemoryLimit:
        """Read the limit as a person types it; raises ValueError as `parse_memory_bytes` does."""
        return cls(parse_memory_bytes(text))


@dataclass(frozen=True, slots=True)
class Limits:
    """All that a subnet must keep on one device.

    Attributes:
        latency: A chance constraint.
        memory: A hard one on its activations; None for no limit.
    """

    latency: LatencyLimit
    memory: MemoryLimit | None = None
