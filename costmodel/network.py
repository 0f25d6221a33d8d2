"""Whole networks: a Gaussian posterior over what each operator costs inside them.

A network's latency is a fixed cost plus the sum of its operators, where every operator's cost
may differ from its label: all together (scale), kind by kind, by a cost of every call, of every
byte of weights or activations (cache pressure), and each by itself. Whole measured networks
correct all of these at once; how far each may move is chosen by marginal likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiler.operator import KINDS, Operator

#: The shared corrections, in this order; after them one for each kind of `KINDS`.
SHARED: Final = ("fixed", "scale", "call", "weights", "activations")
N_SHARED: Final = len(SHARED) + len(KINDS)
_CHUNK: Final = 8192


@dataclass(frozen=True, slots=True)
class OperatorPrior:
    """What is believed of operators before any whole network is seen.

    Attributes:
        operators: The operators, each once.
        mean_us: Latency in place, shape (n_operators,).
        relative_covariance: Of the relative errors, shape (n_operators, n_operators).
    """

    operators: tuple[Operator, ...]
    mean_us: NDArray[np.float64]
    relative_covariance: NDArray[np.float64]

    def design(self) -> NDArray[np.float64]:
        """What a call adds for a unit of each shared correction, (n_operators, n_shared)."""
        ones = np.ones(len(self.operators))
        weights = np.array([op.weight_bytes for op in self.operators], dtype=np.float64)
        moved = np.array(
            [op.input_bytes + op.output_bytes for op in self.operators], dtype=np.float64
        )
        kinds = np.array([[float(op.kind == kind) for kind in KINDS] for op in self.operators])
        shared = np.stack([0 * ones, self.mean_us, ones, weights, moved], axis=1)
        return np.hstack([shared, kinds.reshape(-1, len(KINDS)) * self.mean_us[:, None]])


@dataclass(frozen=True, slots=True)
class OperatorCosts:
    """What operators add to a network's latency.

    Attributes:
        mean_us: Shape (n_operators,).
        fixed_covariance: Covariance with the fixed cost, shape (n_operators,).
        known_covariance: Of what the posterior knows, shape (n_operators, n_operators).
        unseen: Positions of the operators that nobody measured, shape (n_unseen,).
        unseen_covariance: Of their own errors, shape (n_unseen, n_unseen).
    """

    mean_us: NDArray[np.float64]
    fixed_covariance: NDArray[np.float64]
    known_covariance: NDArray[np.float64]
    unseen: NDArray[np.intp]
    unseen_covariance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NetworkPosterior:
    """Corrections of known operators, learned from whole networks.

    Attributes:
        prior: Operators that were measured or occur in measured networks.
        mean: Of (shared corrections, one relative correction an operator), shape (n_params,).
        covariance: Shape (n_params, n_params).
        noise: Relative standard deviation of one measured network.
        floor_us: Absolute standard deviation of one measured network.
    """

    prior: OperatorPrior
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    noise: float
    floor_us: float

    def predict(
        self, counts: NDArray[np.float64], costs: OperatorCosts
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Predict networks from counts of operators.

        Args:
            counts: Shape (n_networks, n_operators).
            costs: What `price` made of the columns of `counts`.

        Returns:
            Mean in microseconds; variance of what is known and of one measurement; variance of
            the unseen operators' costs; each of shape (n_networks,).
        """
        mean = self.fixed_us + counts @ costs.mean_us
        # Var(c0 + n.t) = Var(c0) + 2 n.Cov(c0, t) + n.Cov(t).n
        variance = self.covariance[0, 0] + counts @ (2 * costs.fixed_covariance)
        variance = np.maximum(variance + quadratic_forms(counts, costs.known_covariance), 0.0)
        variance += (self.noise * mean) ** 2 + self.floor_us**2
        unseen = quadratic_forms(counts[:, costs.unseen], costs.unseen_covariance)
        return mean, variance, unseen

    @property
    def fixed_us(self) -> float:
        """What every network costs beside its operators."""
        return float(self.mean[0])

    def price(self, operators: Sequence[Operator], unseen: OperatorPrior) -> OperatorCosts:
        """Price operators inside a network, all corrections applied.

        Args:
            operators: Any operators, each once.
            unseen: The prior of those that this posterior does not know.
        """
        rows, base_us = self._columns(operators, unseen)
        position = {op: index for index, op in enumerate(operators)}
        mean_us = base_us + rows @ self.mean
        new = np.array([position[op] for op in unseen.operators], dtype=np.intp)
        return OperatorCosts(
            # A correction never makes an operator free: a tenth of its own label remains.
            np.maximum(mean_us, 0.1 * base_us),
            rows @ self.covariance[:, 0],
            rows @ self.covariance @ rows.T,
            new,
            unseen.relative_covariance * np.outer(unseen.mean_us, unseen.mean_us),
        )

    def _columns(
        self, operators: Sequence[Operator], unseen: OperatorPrior
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each operator's row over the parameters, and its uncorrected latency."""
        known = {op: index for index, op in enumerate(self.prior.operators)}
        new = {op: index for index, op in enumerate(unseen.operators)}
        rows = np.zeros((len(operators), len(self.mean)))
        base_us = np.zeros(len(operators))
        designs = self.prior.design(), unseen.design()
        for row, op in enumerate(operators):
            if op in known:
                index = known[op]
                base_us[row] = self.prior.mean_us[index]
                rows[row, :N_SHARED] = designs[0][index]
                rows[row, N_SHARED + index] = base_us[row]
            else:
                base_us[row] = unseen.mean_us[new[op]]
                rows[row, :N_SHARED] = designs[1][new[op]]
        return rows, base_us


def quadratic_forms(rows: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row times matrix times row, in chunks that stay in the cache; shape (n_rows,)."""
    result = np.zeros(len(rows))
    if matrix.size:
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            result[start : start + _CHUNK] = np.einsum("ij,ij->i", part @ matrix, part)
    return result
