"""Costs inside networks, learned from whole measured networks, some of which were disturbed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

from costmodel.network import N_SHARED, SHARED, NetworkPosterior, OperatorPrior
from profiler.operator import KINDS

_NAMES: Final = (*SHARED, "kind", "operator", "noise", "floor")
# Prior medians and log-spreads of the standard deviations: fixed cost and cost of a call as
# shares of the fastest network and the median operator, rates as shares of the latency if all
# bytes were like the median network's, others relative; noise relative, its floor a share of the
# fastest network.
_PRIOR_LOG: Final = np.log([0.01, 0.05, 0.03, 0.02, 0.02, 0.02, 1.0, 0.008, 0.003])
_PRIOR_LOG_SD: Final = np.array([0.3, 0.7, 0.8, 0.8, 0.8, 0.7, 0.5, 0.6, 0.8])
#: Without a single network nothing bounds the distance between a sum and a whole.
_SCALE_WITHOUT_NETWORKS: Final = 0.10
#: Positions in `_NAMES` of what differs from one measured network to the next.
_NOISE: Final = slice(7, 9)
#: A network that something slow ran beside, or whose memory lay badly, must not move the others:
#: its noise has the tails of Student's distribution with so many degrees of freedom.
_FREEDOM: Final = 4.0
_N_REWEIGHTINGS: Final = 3


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Each network as predicted without it.

    Attributes:
        error_us: Measured minus predicted, shape (n_networks,).
        variance: What was believed of that error, noise included, shape (n_networks,).
    """

    error_us: NDArray[np.float64]
    variance: NDArray[np.float64]


def fit_networks(
    prior: OperatorPrior, counts: NDArray[np.float64], latency_us: NDArray[np.float64]
) -> tuple[NetworkPosterior, LeftOut]:
    """Correct operator costs by measured networks.

    Args:
        prior: Every operator of the networks, and others that were measured.
        counts: Shape (n_networks, n_operators), columns as in `prior`.
        latency_us: Shape (n_networks,).
    """
    scales = _scales(prior, counts, latency_us)
    parts = _gram_parts(prior, counts, scales)
    residual = latency_us - counts @ prior.mean_us
    trust = np.ones(len(latency_us))
    for _ in range(_N_REWEIGHTINGS if len(latency_us) else 0):
        left_out = _leave_out(parts, residual, trust, _search_sds(parts, residual, trust))
        # E step of section 2, Lange, Little and Taylor 1989; what each is beside the others.
        squares = left_out.error_us**2 / left_out.variance
        trust = np.minimum((_FREEDOM + 1) / (_FREEDOM + squares), 1.0)
    log_sds = _search_sds(parts, residual, trust) if len(latency_us) else _PRIOR_LOG.copy()
    if not len(latency_us):
        log_sds[1] = np.log(_SCALE_WITHOUT_NETWORKS)
    inverse = _invert(parts, trust, log_sds)
    design = np.hstack([counts @ prior.design(), counts * prior.mean_us])
    design[:, 0] = 1.0
    covariance = _parameter_covariance(prior, log_sds, scales)
    gain = covariance @ design.T @ inverse
    posterior = NetworkPosterior(
        prior,
        gain @ residual,
        # One memory layout, so that arrays read back from a file give the same last bits.
        np.ascontiguousarray(covariance - gain @ design @ covariance),
        float(np.exp(log_sds[7])),
        float(np.exp(log_sds[8])) * float(latency_us.min() if len(latency_us) else 0.0),
    )
    return posterior, _leave_out(parts, residual, trust, log_sds)


def _leave_out(
    parts: NDArray[np.float64],
    residual: NDArray[np.float64],
    trust: NDArray[np.float64],
    log_sds: NDArray[np.float64],
) -> LeftOut:
    """Predict each network without it, as one that is trusted in full."""
    inverse = _invert(parts, trust, log_sds)
    # Eq. 5.12, Rasmussen and Williams 2006: leave-one-out without refitting.
    diagonal = np.diag(inverse)
    noise = np.diag(np.tensordot(np.exp(2 * log_sds[_NOISE]), parts[_NOISE], axes=1))
    return LeftOut(inverse @ residual / diagonal, 1.0 / diagonal - noise / trust + noise)


def _invert(
    parts: NDArray[np.float64], trust: NDArray[np.float64], log_sds: NDArray[np.float64]
) -> NDArray[np.float64]:
    gram = np.tensordot(np.exp(2 * log_sds), _distrust(parts, trust), axes=1)
    return np.asarray(cho_solve((np.linalg.cholesky(gram), True), np.eye(len(gram))))


def _distrust(parts: NDArray[np.float64], trust: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give networks that are trusted less the more noise."""
    weighted = parts.copy()
    weighted[_NOISE] /= np.sqrt(np.outer(trust, trust))
    return weighted


def _parameter_covariance(
    prior: OperatorPrior, log_sds: NDArray[np.float64], scales: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Prior covariance of shared and operators' own corrections, (n_params, n_params)."""
    variances = np.exp(2 * log_sds)
    shared = np.concatenate([variances[:5], np.full(len(KINDS), variances[5])]) * scales**2
    size = N_SHARED + len(prior.operators)
    covariance = np.zeros((size, size))
    covariance[:N_SHARED, :N_SHARED] = np.diag(shared)
    covariance[N_SHARED:, N_SHARED:] = variances[6] * prior.relative_covariance
    return covariance


def _scales(
    prior: OperatorPrior, counts: NDArray[np.float64], latency_us: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The unit of each shared correction's standard deviation, shape (n_shared,)."""
    design = prior.design()
    typical_us = float(np.median(latency_us)) if len(latency_us) else float(prior.mean_us.sum())
    totals = counts @ design if len(latency_us) else design.sum(axis=0, keepdims=True)
    typical = np.maximum(np.median(totals, axis=0), 1e-9)
    call_us = float(np.median(prior.mean_us)) if len(prior.mean_us) else 1.0
    fastest_us = float(latency_us.min()) if len(latency_us) else typical_us
    rates = [typical_us / max(typical[3], 1.0), typical_us / max(typical[4], 1.0)]
    return np.array([fastest_us, 1.0, call_us, *rates, *np.ones(len(KINDS))])


def _gram_parts(
    prior: OperatorPrior, counts: NDArray[np.float64], scales: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each standard deviation adds, squared, to the networks' covariance: (9, n, n)."""
    totals = counts @ prior.design() * scales
    totals[:, 0] = scales[0]
    parts = [np.outer(totals[:, i], totals[:, i]) for i in range(len(SHARED))]
    kinds = totals[:, len(SHARED) :]
    own = counts * prior.mean_us
    expected = own.sum(axis=1)
    return np.stack(
        [
            *parts,
            kinds @ kinds.T,
            own @ prior.relative_covariance @ own.T,
            np.diag(expected**2),
            scales[0] ** 2 * np.eye(len(counts)),
        ]
    )


def _search_sds(
    parts: NDArray[np.float64], residual: NDArray[np.float64], trust: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logarithms of the most probable standard deviations, in the order of `_NAMES`."""
    from scipy.optimize import minimize  # noqa: PLC0415  # who only predicts does not wait for it

    unit = np.eye(len(residual))
    weighted = _distrust(parts, trust)

    def cost(log_sds: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # Eqs. 2.30 and 5.9, Rasmussen and Williams 2006, log-normal prior on the deviations.
        variances = np.exp(2 * log_sds)
        root = np.linalg.cholesky(np.tensordot(variances, weighted, axes=1))
        inverse = cho_solve((root, True), unit)
        weights = inverse @ residual
        inner = inverse - np.outer(weights, weights)
        pull = (log_sds - _PRIOR_LOG) / _PRIOR_LOG_SD
        value = 0.5 * residual @ weights + np.log(np.diag(root)).sum() + 0.5 * pull @ pull
        gradient = variances * np.tensordot(weighted, inner, axes=2) + pull / _PRIOR_LOG_SD
        return float(value), gradient

    bounds = list(zip(_PRIOR_LOG - 4 * _PRIOR_LOG_SD, _PRIOR_LOG + 4 * _PRIOR_LOG_SD, strict=True))
    options = {"maxiter": 60}
    found = minimize(cost, _PRIOR_LOG, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
    return np.asarray(found.x, dtype=np.float64)
