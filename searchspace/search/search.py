"""The one entry to searching: exhaustive where a space can be enumerated, else evolution."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from searchspace.accuracy import AccuracySource, TableAccuracy
from searchspace.constraint import LatencyLimit, MemoryLimit
from searchspace.genes import Genomes, all_genomes
from searchspace.search.evolution import EvolutionSettings, evolve
from searchspace.search.exhaustive import evaluate_all
from searchspace.search.ledger import LatencyPredictor, Ledger, pareto_front
from searchspace.search.result import OnProgress, SearchProgress, SearchResult
from searchspace.space import SearchSpace

#: Spaces of up to so many subnets are searched exhaustively.
MAX_ENUMERATED: Final = 100_000


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search, and whom to tell.

    Attributes:
        n_candidates: Candidates returned at the most.
        memory: What every candidate must fit, beside the latency limit; None for no limit.
        device: Named in messages.
        evolution: How much work an evolution does.
        on_progress: Called now and then.
        clock: Seconds, monotonic.
    """

    n_candidates: int = 10
    memory: MemoryLimit | None = None
    device: str | None = None
    evolution: EvolutionSettings = field(default_factory=EvolutionSettings)
    on_progress: OnProgress | None = None
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.n_candidates < 1:
            raise ValueError(f"n_candidates must be >= 1, got {self.n_candidates}")


def search(
    space: SearchSpace,
    latency: LatencyPredictor,
    accuracy: AccuracySource,
    limit: LatencyLimit,
    rng: np.random.Generator,
    options: SearchOptions | None = None,
) -> SearchResult:
    """Find the most accurate subnets whose predicted latency and memory keep the limits.

    Exhaustive over a space of at most `MAX_ENUMERATED` genomes and over a table of accuracies,
    which is all that is known then; evolution otherwise. Equal accuracies are ranked by latency,
    then by genome.

    Raises:
        InfeasibleMemoryError: no subnet known fits the memory; carries the smallest.
        InfeasibleLimitError: no subnet known that fits meets the limit; carries the fastest.
    """
    options = SearchOptions() if options is None else options
    started_s = options.clock()
    ledger = Ledger(space, latency, accuracy, limit, options.memory)
    listed = _enumerable(space, accuracy)
    if listed is not None:
        evaluate_all(ledger, listed, options.device)
        _report(ledger, 1.0, options.on_progress)
    else:
        evolve(
            ledger,
            options.evolution,
            rng,
            lambda share: _report(ledger, share, options.on_progress),
            options.device,
        )
    evaluated = ledger.everything()
    return SearchResult(
        space=space.name,
        limit=limit,
        memory=options.memory,
        candidates=ledger.candidates(evaluated.ranked(options.n_candidates)),
        front=ledger.candidates(pareto_front(evaluated)),
        n_evaluations=ledger.n_evaluations,
        elapsed_s=options.clock() - started_s,
        method="evolution" if listed is None else "exhaustive",
    )


def _enumerable(space: SearchSpace, accuracy: AccuracySource) -> Genomes | None:
    """All subnets that can be looked at one by one, or None where there are too many."""
    if isinstance(accuracy, TableAccuracy):
        return accuracy.genomes
    n_genomes = 1
    for values in space.choices:
        n_genomes *= len(values)
    return all_genomes(space.choices) if n_genomes <= MAX_ENUMERATED else None


def _report(ledger: Ledger, share: float, on_progress: OnProgress | None) -> None:
    if on_progress is None:
        return
    best = ledger.candidates(ledger.everything().ranked(1))
    on_progress(SearchProgress(share, ledger.n_evaluations, best[0] if best else None))
