from __future__ import annotations

import numpy as np
import pytest

from devices.fill import uniform

MASK = (1 << 64) - 1


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 7, 2**64 - 1])
def test_numbers_are_splitmix_of_seed_and_place(seed: int) -> None:
    start = mix((seed + 0x9E3779B97F4A7C15) & MASK)
    hashed = [mix((start + (i + 1) * 0x9E3779B97F4A7C15) & MASK) >> 40 for i in range(6)]
    expected = [np.float32((h * 2.0**-23 - 1) * 0.75) for h in hashed]
    np.testing.assert_array_equal(uniform(seed, 0.75, (2, 3)).ravel(), expected)


def test_numbers_are_uniform_within_the_scale() -> None:
    values = uniform(3, 2.0, (200_000,))
    assert values.dtype == np.float32
    assert values.min() >= -2.0
    assert values.max() < 2.0
    assert abs(values.mean()) < 4 * 2 / np.sqrt(3 * 200_000)
    counts = np.histogram(values, bins=10, range=(-2, 2))[0]
    assert abs(counts - 20_000).max() < 4 * np.sqrt(20_000)


def test_neighbouring_seeds_are_unrelated() -> None:
    a, b = uniform(1, 1.0, (100_000,)), uniform(2, 1.0, (100_000,))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(100_000)
    assert abs(np.corrcoef(a[1:], b[:-1])[0, 1]) < 4 / np.sqrt(100_000)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be from 0"):
        uniform(seed, 1.0, (1,))
