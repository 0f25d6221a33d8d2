from __future__ import annotations

import numpy as np
import pytest

from profiler.minimal_filtering import FILTERINGS, Filtering

RNG = np.random.default_rng(3)


def into_products(filtering: Filtering) -> np.ndarray:
    """B^T = H Q."""
    pairs = np.eye(filtering.side)
    for k in filtering.pairs():
        pairs[k : k + 2, k : k + 2] = [[1, 1], [1, -1]]
    return pairs @ filtering.image


def from_products(filtering: Filtering) -> np.ndarray:
    """A^T = R H."""
    pairs = np.eye(filtering.side)
    for k in filtering.pairs():
        pairs[k : k + 2, k : k + 2] = [[1, 1], [1, -1]]
    return filtering.result @ pairs


@pytest.mark.parametrize(("size", "n_products"), [(2, 16), (4, 36)])
def test_squares_of_outputs_are_correlations_with_the_kernel(size: int, n_products: int) -> None:
    filtering = FILTERINGS[size]
    assert (filtering.size, filtering.side) == (size, size + 2)
    assert filtering.n_products == n_products
    inputs = RNG.normal(size=(size + 2, size + 2))
    kernels = RNG.normal(size=(3, 3, 2, 5))
    before, after = into_products(filtering), from_products(filtering)
    for depth, channel in np.ndindex(2, 5):
        kernel = kernels[:, :, depth, channel]
        transformed = filtering.transform_kernels(kernels)[:, depth, channel]
        products = transformed.reshape(size + 2, size + 2) * (before @ inputs @ before.T)
        expected = [
            [np.sum(inputs[y : y + 3, x : x + 3] * kernel) for x in range(size)]
            for y in range(size)
        ]
        np.testing.assert_allclose(after @ products @ after.T, expected, rtol=0, atol=1e-13)


def test_the_small_matrices_are_those_of_the_paper() -> None:
    # Lavin and Gray 2016, section 4.1, but for a sign in the first and last rows of G and B^T.
    filtering = FILTERINGS[2]
    paper = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
    np.testing.assert_array_equal(np.abs(into_products(filtering)), np.abs(paper))
    np.testing.assert_array_equal(from_products(filtering), [[1, 1, 1, 0], [0, 1, -1, 1]])
    halves = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    np.testing.assert_array_equal(np.abs(filtering.kernel), np.abs(halves))


def test_transforms_multiply_by_few_numbers() -> None:
    # What the kernels write out: every number that is not zero is an operation.
    for size, image, result in ((2, 6, 4), (4, 14, 10)):
        filtering = FILTERINGS[size]
        assert np.count_nonzero(filtering.image) == image
        assert np.count_nonzero(filtering.result) == result
