"""The smallest change that can be shown, against simulations of the test that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from profiler.detection import MIN_PAIRS, find_detection, median_error, smallest_change

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

#: Noise of log-ratios: calm, with wild sessions, and of two modes.
NOISE: dict[str, Draw] = {
    "normal": lambda rng, shape: 0.01 * rng.standard_normal(shape),
    "wild": lambda rng, shape: 0.01 * rng.standard_t(2, shape),
    "two modes": lambda rng, shape: (
        0.003 * rng.standard_normal(shape) + 0.02 * rng.integers(-1, 2, shape)
    ),
}


def test_the_error_of_a_median_is_that_of_all_resamples() -> None:
    """All 5^5 resamples with replacement, each as likely."""
    values = np.array([0.3, -1.0, 2.5, 0.9, 0.35])
    grid = np.stack(np.meshgrid(*[values] * 5), axis=-1).reshape(-1, 5)
    assert median_error(values[np.newaxis])[0] == pytest.approx(np.median(grid, axis=1).std())


def test_the_error_of_a_normal_median_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    errors = median_error(rng.standard_normal((200, 201)))
    assert np.mean(errors) == pytest.approx(math.sqrt(math.pi / 2 / 201), rel=0.1)


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("n_pairs", [25, 120])
def test_the_smallest_change_is_found_four_times_of_five(noise: str, n_pairs: int) -> None:
    """Brute force: calibrate often, then test fresh pairs with and without a change."""
    rng = np.random.default_rng(7)
    draw = NOISE[noise]
    smallest = [smallest_change(draw(rng, (1, n_pairs))[0], rng) for _ in range(30)]
    change = float(np.median(smallest))
    found, false = (
        float(np.mean(_is_shown(draw(rng, (1500, n_pairs)) + shift))) for shift in (change, 0.0)
    )
    assert 0.65 <= found <= 0.93, noise
    assert false <= 0.09, noise


def _is_shown(log_ratios: np.ndarray) -> np.ndarray:
    """Whether the 95 % interval of the median excludes no change, by resampling each series."""
    rng = np.random.default_rng(1)
    n_pairs = log_ratios.shape[1]
    medians = np.stack(
        [np.median(log_ratios[:, rng.integers(n_pairs, size=n_pairs)], axis=1) for _ in range(400)]
    )
    error = medians.std(axis=0)
    return np.abs(np.median(log_ratios, axis=1)) > 1.96 * error


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    n_pairs = 101
    error = math.sqrt(math.pi / 2 / n_pairs) * 0.01
    truth = 100 * math.expm1((1.959964 + 0.841621) * error)
    detections = [find_detection(0.01 * rng.standard_normal(n_pairs), rng) for _ in range(60)]
    held = np.mean([d.low_percent <= truth <= d.high_percent for d in detections])
    assert held >= 0.85


def test_sessions_for_a_change_follow_the_square_root() -> None:
    rng = np.random.default_rng(5)
    found = find_detection(0.02 * rng.standard_normal(100), rng)
    assert found.sessions_for(found.smallest_percent) in {200, 202}
    half = 100 * math.expm1(math.log1p(found.smallest_percent / 100) / 2)
    assert found.sessions_for(half) == pytest.approx(800, abs=2)
    assert found.sessions_for(1000.0) == 2 * MIN_PAIRS
    with pytest.raises(ValueError, match="change_percent must be > 0"):
        found.sessions_for(0.0)


def test_a_steady_difference_of_the_series_is_told_as_a_shift() -> None:
    rng = np.random.default_rng(5)
    found = find_detection(math.log(1.02) + 1e-4 * rng.standard_normal(50), rng)
    assert found.shift_percent == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("values", [[0.0] * (MIN_PAIRS - 1), [0.0] * 9 + [math.nan]])
def test_too_little_or_nonsense_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="log_ratios must be 6 or more finite numbers"):
        find_detection(values, np.random.default_rng(0))
