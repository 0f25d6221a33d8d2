"""Evolution under a latency limit, for spaces too large to enumerate.

After Cai et al., "Once-for-All", ICLR 2020 (population, parents, half mutants and half crossovers),
with what that one lacks: no subnet is evaluated twice, redraws are bounded, the population is
restarted, and local search by single genes and by pairs finishes from several starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from searchspace.genes import Genomes, as_genome, cross_genes, mutate_genes, sample_genes
from searchspace.search.ledger import (
    Evaluation,
    Ledger,
    infeasible_latency,
    infeasible_memory,
)
from searchspace.search.local import climb, fastest_known, leanest_known


@dataclass(frozen=True, slots=True)
class EvolutionSettings:
    """How much work an evolution does; the defaults take a few seconds on `ofa_mbv3`.

    Attributes:
        n_restarts: Populations, one after the other, each from new random subnets.
        n_population: Subnets in a population.
        n_generations: Generations a population lives.
        parent_share: Share of the population that breeds.
        mutation: Probability that a mutant's gene changes.
        n_redraws: Batches of children drawn in a generation at the most.
        n_climbs: Local searches from the best subnets of each restart.
        n_kicks: Local searches from the best subnet of all with a few genes changed.
        kick: Probability that a gene changes in such a start.
        n_pair_moves: Pairs of genes tried at a time in those searches; the last one tries all.
        n_random: Random subnets evaluated first, beyond the limit too.
    """

    n_restarts: int = 3
    n_population: int = 100
    n_generations: int = 40
    parent_share: float = 0.25
    mutation: float = 0.1
    n_redraws: int = 5
    n_climbs: int = 2
    n_kicks: int = 40
    kick: float = 0.08
    n_pair_moves: int = 600
    n_random: int = 200

    def __post_init__(self) -> None:
        for name in ("n_restarts", "n_population", "n_generations", "n_redraws", "n_climbs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0.0 < self.parent_share <= 1.0:
            raise ValueError(f"parent_share must lie in (0, 1], got {self.parent_share}")


#: Called with the share of the work done.
OnShare = Callable[[float], None]


def evolve(
    ledger: Ledger,
    settings: EvolutionSettings,
    rng: np.random.Generator,
    on_share: OnShare,
    device: str | None = None,
) -> None:
    """Search; everything found stays in the ledger.

    Raises:
        InfeasibleMemoryError: the smallest subnet that local search on memory finds does not fit.
        InfeasibleLimitError: the fastest subnet that local search on latency finds is over the
            limit; raised before any evolution.
    """
    fastest = _fastest(ledger, settings, rng, device)
    n_steps = settings.n_restarts * (1 + settings.n_climbs) + settings.n_kicks
    n_done = 0

    def advance() -> None:
        nonlocal n_done
        n_done += 1
        on_share(n_done / n_steps)

    for _ in range(settings.n_restarts):
        population = _breed(ledger, settings, fastest.genomes, rng)
        advance()
        for row in range(settings.n_climbs):
            if row < len(population.genomes):
                start = population.take(np.array([row]))
                climb(ledger, start, _most_accurate, rng, settings.n_pair_moves)
            advance()
    for _ in range(settings.n_kicks):
        _kick(ledger, settings, rng)
        advance()
    _polish(ledger, rng)


def _fastest(
    ledger: Ledger, settings: EvolutionSettings, rng: np.random.Generator, device: str | None
) -> Evaluation:
    """The fastest subnet known that fits the memory; raises as `evolve` does."""
    fastest = fastest_known(ledger, rng, settings.n_random)
    if not fastest.fits[0]:  # no subnet met on the way does
        smallest = leanest_known(ledger, rng)
        if not smallest.fits[0]:
            raise infeasible_memory(ledger, smallest)
        climb(ledger, smallest, Evaluation.fastest, rng)
        fastest = ledger.everything().fastest()
    if not fastest.is_feasible[0]:
        raise infeasible_latency(ledger, fastest, device)
    return fastest


def _most_accurate(rows: Evaluation) -> Evaluation:
    return rows.ranked(1)


def _breed(
    ledger: Ledger, settings: EvolutionSettings, fastest: Genomes, rng: np.random.Generator
) -> Evaluation:
    """Let one population live; returns it ranked."""
    population = _first_population(ledger, settings, fastest, rng)
    n_parents = max(2, round(settings.parent_share * settings.n_population))
    for _ in range(settings.n_generations):
        parents = population.genomes[:n_parents]
        if not len(parents):
            break
        children = _children(ledger, settings, parents, rng)
        if not len(children.genomes):
            break
        population = population.join(children).ranked(settings.n_population)
    return population


def _first_population(
    ledger: Ledger, settings: EvolutionSettings, fastest: Genomes, rng: np.random.Generator
) -> Evaluation:
    """Random subnets within the limit; mixed with the fastest one where random ones miss it."""
    n = settings.n_population
    found = ledger.everything().ranked().take(np.arange(0))
    for attempt in range(2 * settings.n_redraws):
        drawn = sample_genes(ledger.space.choices, rng, 2 * n)
        # Ever more genes of the fastest subnet: the last draws meet any limit that it meets.
        keep = rng.random(drawn.shape) < attempt / (2 * settings.n_redraws)
        drawn = np.where(keep, fastest, drawn)
        found = found.join(ledger.evaluate(drawn).ranked())
        if len(found.genomes) >= n:
            break
    found = found.ranked()
    return found if len(found.genomes) else ledger.everything().ranked(n)


def _children(
    ledger: Ledger, settings: EvolutionSettings, parents: Genomes, rng: np.random.Generator
) -> Evaluation:
    """New children within the limit, half mutants and half crossovers; maybe fewer than asked."""
    choices, n = ledger.space.choices, settings.n_population
    found = None
    for _ in range(settings.n_redraws):
        mothers = parents[rng.integers(len(parents), size=n)]
        fathers = parents[rng.integers(len(parents), size=n)]
        half = n // 2
        mutants = mutate_genes(mothers[:half], choices, rng, settings.mutation)
        crossed = cross_genes(mothers[half:], fathers[half:], rng)
        drawn = ledger.evaluate(np.concatenate([mutants, crossed])).ranked()
        found = drawn if found is None else found.join(drawn)
        if len(found.genomes) >= n // 2:
            break
    assert found is not None
    return found


def _kick(ledger: Ledger, settings: EvolutionSettings, rng: np.random.Generator) -> None:
    """Climb from the best subnet with a few genes changed."""
    best = ledger.everything().ranked(1)
    for _ in range(settings.n_redraws):
        copies = np.repeat(best.genomes, 20, axis=0)
        kicked = ledger.evaluate(mutate_genes(copies, ledger.space.choices, rng, settings.kick))
        starts = kicked.ranked(1)
        if len(starts.genomes):
            climb(ledger, starts, _most_accurate, rng, settings.n_pair_moves)
            return


def _polish(ledger: Ledger, rng: np.random.Generator) -> None:
    """Climb from the best of all until it is the best of its neighbourhood."""
    polished = None
    while True:
        best = ledger.everything().ranked(1)
        genome = as_genome(best.genomes[0])
        if genome == polished:
            return
        climb(ledger, best, _most_accurate, rng)
        polished = genome
