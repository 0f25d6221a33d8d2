"""A smooth surface through log latencies: a Gaussian process on logarithmic features.

It interpolates between kernel sizes and widths where trees can only step, and it knows how far
an operator lies from everything measured. The trees of `model` correct what it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

# Logarithms of (sd of the level, sd of a slope, sd of the curved part, its length in units of
# the inputs' spread, sd of the noise) with their prior spreads. The length is one for all
# inputs: one for each was no better on 4,050 measured blocks and worse in extrapolation.
_PRIOR_MEAN: Final = np.log([1.0, 0.1, 0.2, 3.0, 0.03])
_PRIOR_SD: Final = np.array([1.0, 1.0, 1.0, 0.8, 0.7])
_LEAST_SPREAD: Final = 0.3
_MAX_SEARCHED: Final = 200
_JITTER: Final = 1e-6


@dataclass(frozen=True, slots=True)
class SmoothFit:
    """A fitted Gaussian process.

    Attributes:
        center, spread: Shape (n_features,): inputs are centred and divided by these.
        log_scales: Shape (5,): logarithms of level, slope, curve, length and noise.
        inputs: Shape (n_samples, n_features), standardised.
        inverse: Shape (n_samples, n_samples): inverse covariance of the samples.
        weights: Shape (n_samples,): `inverse` times the targets.
    """

    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    log_scales: NDArray[np.float64]
    inputs: NDArray[np.float64]
    inverse: NDArray[np.float64]
    weights: NDArray[np.float64]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Posterior mean at features of shape (n, n_features); shape (n,)."""
        scaled = (features - self.center) / self.spread
        return np.asarray(_covariance(scaled, self.inputs, self.log_scales) @ self.weights)

    def covariance(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Posterior covariance between points, noise of one sample included; shape (n, n)."""
        scaled = (features - self.center) / self.spread
        cross = _covariance(scaled, self.inputs, self.log_scales)
        prior = _covariance(scaled, scaled, self.log_scales)
        posterior = prior - cross @ self.inverse @ cross.T
        return np.asarray(posterior + np.exp(2 * self.log_scales[4]) * np.eye(len(scaled)))

    def leave_out(
        self, held_out: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the fit would have missed at samples if it had never seen them.

        Returns:
            Target minus prediction, shape (n_held_out,), and its covariance, shape
            (n_held_out, n_held_out), at unchanged scales.
        """
        # Eq. 5.12, Rasmussen and Williams 2006, for a block of samples.
        block = np.linalg.inv(self.inverse[np.ix_(held_out, held_out)])
        return np.asarray(block @ self.weights[held_out]), np.asarray(block)


def fit_smooth(
    features: NDArray[np.float64], target: NDArray[np.float64], rng: np.random.Generator
) -> SmoothFit:
    """Fit by the most probable scales.

    Args:
        features: Shape (n_samples, n_features).
        target: Shape (n_samples,), centred near 0.
        rng: Draws the samples on which scales are searched when there are many.
    """
    center = features.mean(axis=0)
    spread = np.maximum(features.std(axis=0), _LEAST_SPREAD)
    inputs = (features - center) / spread
    chosen = np.arange(len(target))
    if len(target) > _MAX_SEARCHED:
        chosen = np.sort(rng.choice(len(target), _MAX_SEARCHED, replace=False))
    log_scales = _search_scales(inputs[chosen], target[chosen])
    gram = _gram(inputs, log_scales)
    root = np.linalg.cholesky(gram)
    # One memory layout, so that arrays read back from a file give the same last bits.
    inverse = np.ascontiguousarray(cho_solve((root, True), np.eye(len(target))))
    inputs = np.ascontiguousarray(inputs)
    return SmoothFit(center, spread, log_scales, inputs, inverse, inverse @ target)


def _search_scales(inputs: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.optimize import minimize  # noqa: PLC0415  # who only predicts does not wait for it

    products, squared = _products(inputs, inputs)
    unit = np.eye(len(inputs))

    def cost(log_scales: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # Eqs. 2.30 and 5.9, Rasmussen and Williams 2006, with a normal prior on the scales.
        level, slope, curve, length, noise = np.exp(log_scales)
        bump = curve**2 * np.exp(-0.5 * squared / length**2)
        gram = level**2 + slope**2 * products + bump + (noise**2 + _JITTER) * unit
        root = np.linalg.cholesky(gram)
        inverse = cho_solve((root, True), unit)
        weights = inverse @ target
        inner = inverse - np.outer(weights, weights)
        gradient = np.array(
            [
                level**2 * inner.sum(),
                slope**2 * np.vdot(inner, products),
                np.vdot(inner, bump),
                0.5 * np.vdot(inner, bump * squared) / length**2,
                noise**2 * np.trace(inner),
            ]
        )
        pull = (log_scales - _PRIOR_MEAN) / _PRIOR_SD
        value = 0.5 * target @ weights + np.log(np.diag(root)).sum() + 0.5 * pull @ pull
        return float(value), gradient + pull / _PRIOR_SD

    bounds = list(zip(_PRIOR_MEAN - 4 * _PRIOR_SD, _PRIOR_MEAN + 4 * _PRIOR_SD, strict=True))
    options = {"maxiter": 40}
    found = minimize(cost, _PRIOR_MEAN, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
    return np.asarray(found.x, dtype=np.float64)


def _gram(inputs: NDArray[np.float64], log_scales: NDArray[np.float64]) -> NDArray[np.float64]:
    noise = np.exp(2 * log_scales[4]) + _JITTER
    return np.asarray(_covariance(inputs, inputs, log_scales) + noise * np.eye(len(inputs)))


def _covariance(
    left: NDArray[np.float64], right: NDArray[np.float64], log_scales: NDArray[np.float64]
) -> NDArray[np.float64]:
    level, slope, curve, length, _ = np.exp(log_scales)
    products, squared = _products(left, right)
    bump = np.exp(-0.5 * squared / length**2)
    return np.asarray(level**2 + slope**2 * products + curve**2 * bump)


def _products(
    left: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inner products and squared distances between rows, each (n_left, n_right)."""
    products = left @ right.T
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * products
    return products, np.maximum(squared, 0.0)
