from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchspace.constraint import (
    LatencyLimit,
    MemoryLimit,
    format_memory,
    parse_latency_us,
    parse_memory_bytes,
)


@pytest.mark.parametrize(
    ("text", "latency_us"),
    [
        ("8ms", 8000.0),
        ("900us", 900.0),
        ("1.2s", 1.2e6),
        (" 0.5 ms ", 500.0),
        ("3µs", 3.0),
        ("1e1ms", 1e4),
    ],
)
def test_latency_with_a_unit_is_read_as_microseconds(text: str, latency_us: float) -> None:
    assert parse_latency_us(text) == pytest.approx(latency_us, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["8", "", "ms", "-8ms", "0ms", "nanms", "infms", "nan", "8min", "8 ns", "8,5ms", "1e999s"],
)
def test_latency_without_unit_or_not_positive_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="positive number with a unit") as caught:
        parse_latency_us(text)
    assert repr(text) in str(caught.value)


def test_limit_is_a_chance_constraint() -> None:
    # The normal quantile of 0.95 is 1.6449: 10 + 1.6449 * 1 = 11.6449.
    mean, sigma = np.array([10.0, 10.0, np.nan]), np.array([1.0, 1.001, 0.0])
    assert LatencyLimit(11.645, 0.95).is_met(mean, sigma).tolist() == [True, False, False]
    assert LatencyLimit(10.0, 0.5).is_met(mean, sigma).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("limit_us", "confidence"), [(0.0, 0.9), (np.nan, 0.9), (1.0, 1.0), (1.0, 0.4)]
)
def test_limit_out_of_range_is_refused(limit_us: float, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"must (be|lie)"):
        LatencyLimit(limit_us, confidence)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("320kB", 320_000),
        ("320 KB", 320_000),
        ("1.5MiB", 1_572_864),
        ("2GB", 2_000_000_000),
        ("64KiB", 65_536),
        ("900B", 900),
        (" .5 MB ", 500_000),
        ("0.3kB", 300),
        ("1.2345kB", 1_234),
    ],
)
def test_memory_with_a_unit_is_read_as_bytes(text: str, n_bytes: int) -> None:
    assert parse_memory_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["320", "", "kB", "-1kB", "0MB", "0.1B", "1e3kB", "8Mb!", "1,5MB"])
def test_memory_without_unit_or_not_positive_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="positive number with a unit, B, kB, MB, GB") as caught:
        parse_memory_bytes(text)
    assert repr(text) in str(caught.value)


@given(st.integers(1, 10**13))
def test_formatted_memory_is_exact(n_bytes: int) -> None:
    assert parse_memory_bytes(format_memory(n_bytes)) == n_bytes


def test_a_memory_limit_is_at_least_a_byte() -> None:
    with pytest.raises(ValueError, match="limit_bytes must be >= 1, got 0"):
        MemoryLimit(0)
