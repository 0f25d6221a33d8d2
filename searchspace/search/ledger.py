"""Everything a search has evaluated: each subnet is priced once, however often it is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from profiler.network import OperatorCounts
from searchspace.accuracy import AccuracySource
from searchspace.constraint import LatencyLimit, MemoryLimit
from searchspace.genes import Genomes, as_genome
from searchspace.search.result import Candidate, InfeasibleLimitError, InfeasibleMemoryError
from searchspace.space import SearchSpace


class LatencyEstimates(Protocol):
    """Predicted latencies, arrays of shape (n_subnets,), microseconds."""

    @property
    def mean_us(self) -> NDArray[np.float64]:
        """Expected latency."""
        ...

    @property
    def sigma_us(self) -> NDArray[np.float64]:
        """Standard deviation of the prediction's error."""
        ...


class LatencyPredictor(Protocol):
    """Prices many networks at once; the columns of one space are always the same tuple."""

    def __call__(self, counts: OperatorCounts, /) -> LatencyEstimates:
        """Predict each network's latency."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Subnets with their predictions; every array has one entry a row of `genomes`.

    Attributes:
        genomes: Canonical, shape (n_subnets, n_genes).
        accuracy_percent: NaN where it was not asked for.
        mean_us, sigma_us, upper_us: Latency, microseconds.
        peak_bytes: Bytes of activations at the peak.
        fits: Whether the memory limit is met; true where there is none.
        is_feasible: Whether it fits and the latency limit is met.
    """

    genomes: Genomes
    accuracy_percent: NDArray[np.float64]
    mean_us: NDArray[np.float64]
    sigma_us: NDArray[np.float64]
    upper_us: NDArray[np.float64]
    peak_bytes: NDArray[np.int64]
    fits: NDArray[np.bool_]
    is_feasible: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> Evaluation:
        """These rows, in this order."""
        return Evaluation(
            self.genomes[rows],
            self.accuracy_percent[rows],
            self.mean_us[rows],
            self.sigma_us[rows],
            self.upper_us[rows],
            self.peak_bytes[rows],
            self.fits[rows],
            self.is_feasible[rows],
        )

    def head(self, n_rows: int) -> Evaluation:
        """The first rows."""
        return self.take(np.arange(min(n_rows, len(self.genomes))))

    def join(self, *others: Evaluation) -> Evaluation:
        """These rows, then the others'."""
        parts = (self, *others)
        return Evaluation(
            np.concatenate([part.genomes for part in parts]),
            np.concatenate([part.accuracy_percent for part in parts]),
            np.concatenate([part.mean_us for part in parts]),
            np.concatenate([part.sigma_us for part in parts]),
            np.concatenate([part.upper_us for part in parts]),
            np.concatenate([part.peak_bytes for part in parts]),
            np.concatenate([part.fits for part in parts]),
            np.concatenate([part.is_feasible for part in parts]),
        )

    def ranked(self, n_rows: int | None = None) -> Evaluation:
        """Feasible rows, best first: accuracy, then lower latency, then the lower genome.

        Args:
            n_rows: How many of the best; all of them when None.
        """
        rows = np.flatnonzero(self.is_feasible & ~np.isnan(self.accuracy_percent))
        if n_rows is not None and n_rows < len(rows):
            # Sort only what can be among the best: the ledger holds 100,000 rows.
            accuracy = self.accuracy_percent[rows]
            rows = rows[accuracy >= np.partition(accuracy, len(rows) - n_rows)[-n_rows]]
        genes = tuple(self.genomes[rows].T[::-1])
        order = np.lexsort((*genes, self.upper_us[rows], -self.accuracy_percent[rows]))
        return self.take(rows[order[:n_rows]])

    def fastest(self) -> Evaluation:
        """The row of least `upper_us` among those that fit, if any does.

        The lower genome comes first where several tie.
        """
        rows = np.flatnonzero(self.fits) if self.fits.any() else np.arange(len(self.genomes))
        rows = rows[self.upper_us[rows] == self.upper_us[rows].min(initial=np.inf)]
        return self.take(rows[np.lexsort(self.genomes[rows].T[::-1])[:1]])

    def leanest(self) -> Evaluation:
        """The row of fewest peak bytes; of several the fastest, then the lower genome."""
        genes = tuple(self.genomes.T[::-1])
        return self.take(np.lexsort((*genes, self.upper_us, self.peak_bytes))[:1])


class Ledger:
    """Prices subnets and remembers them.

    Accuracy is asked for feasible subnets alone unless `with_all_accuracies` says otherwise.
    """

    def __init__(
        self,
        space: SearchSpace,
        latency: LatencyPredictor,
        accuracy: AccuracySource,
        limit: LatencyLimit,
        memory: MemoryLimit | None = None,
    ) -> None:
        self.space = space
        self.limit = limit
        self.memory = memory
        self._latency = latency
        self._accuracy = accuracy
        self._seen: dict[bytes, int] = {}
        self._parts: list[Evaluation] = []

    @property
    def n_evaluations(self) -> int:
        """Distinct subnets priced so far."""
        return len(self._seen)

    def unseen(self, genomes: Genomes) -> Genomes:
        """Canonical, distinct rows that were never evaluated, in order of first appearance."""
        fresh: dict[bytes, int] = {}
        canonical = np.ascontiguousarray(self.space.canonical_many(genomes), dtype=np.int64)
        for index, row in enumerate(canonical):
            key = row.tobytes()
            if key not in self._seen:
                fresh.setdefault(key, index)
        return canonical[list(fresh.values())]

    def evaluate(self, genomes: Genomes, *, with_all_accuracies: bool = False) -> Evaluation:
        """Price the rows that are new; returns those alone, as `unseen` orders them."""
        fresh = self.unseen(genomes)
        estimates = self._latency(self.space.counts(fresh))
        mean_us = np.asarray(estimates.mean_us, dtype=np.float64)
        sigma_us = np.asarray(estimates.sigma_us, dtype=np.float64)
        peak_bytes = self.space.peak_activation_bytes(fresh)
        most_bytes = np.inf if self.memory is None else self.memory.limit_bytes
        fits = peak_bytes <= most_bytes
        is_feasible = fits & self.limit.is_met(mean_us, sigma_us)
        accuracy = np.full(len(fresh), np.nan)
        asked = np.ones_like(is_feasible) if with_all_accuracies else is_feasible
        if asked.any():
            accuracy[asked] = self._accuracy.accuracy_percent(fresh[asked])
        upper_us = self.limit.upper_us(mean_us, sigma_us)
        part = Evaluation(
            fresh, accuracy, mean_us, sigma_us, upper_us, peak_bytes, fits, is_feasible
        )
        for row in fresh:
            self._seen[row.tobytes()] = len(self._seen)
        self._parts.append(part)
        return part

    def everything(self) -> Evaluation:
        """All that was evaluated, in order."""
        first, *others = self._parts
        return first.join(*others)

    def candidates(self, rows: Evaluation) -> tuple[Candidate, ...]:
        """The rows as values for people, in their order."""
        return tuple(
            Candidate(
                genome=as_genome(genome),
                text=self.space.format(as_genome(genome)),
                accuracy_percent=float(rows.accuracy_percent[index]),
                mean_us=float(rows.mean_us[index]),
                sigma_us=float(rows.sigma_us[index]),
                upper_us=float(rows.upper_us[index]),
                peak_activation_bytes=int(rows.peak_bytes[index]),
            )
            for index, genome in enumerate(rows.genomes)
        )


def pareto_front(rows: Evaluation) -> Evaluation:
    """Of the rows that fit, those that no other beats in accuracy and latency, fastest first."""
    known = np.flatnonzero(rows.fits & ~np.isnan(rows.accuracy_percent))
    order = known[np.lexsort((-rows.accuracy_percent[known], rows.mean_us[known]))]
    accuracy = rows.accuracy_percent[order]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(accuracy)[:-1]])
    return rows.take(order[accuracy > best_before])


def infeasible_latency(
    ledger: Ledger, fastest: Evaluation, device: str | None
) -> InfeasibleLimitError:
    """The error that ends a search whose fastest subnet, one row, is over the limit."""
    (candidate,) = ledger.candidates(fastest)
    return InfeasibleLimitError(ledger.space.name, ledger.limit, candidate, device, ledger.memory)


def infeasible_memory(ledger: Ledger, smallest: Evaluation) -> InfeasibleMemoryError:
    """The error that ends a search whose smallest subnet, one row, does not fit."""
    assert ledger.memory is not None
    (candidate,) = ledger.candidates(smallest)
    return InfeasibleMemoryError(ledger.space.name, ledger.memory, candidate)
