"""Local search: from a subnet to its best neighbour, until no neighbour is better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from searchspace.genes import Genome, Genomes, as_genome, as_genomes, pair_moves, single_moves
from searchspace.search.ledger import Evaluation, Ledger

#: Pair moves looked at from one subnet at the most, whatever the caller allows.
MAX_PAIR_MOVES: Final = 20_000

#: Rows -> the best of them (one row), or no row where none is acceptable.
Choose = Callable[[Evaluation], Evaluation]


def climb(
    ledger: Ledger,
    start: Evaluation,
    choose: Choose,
    rng: np.random.Generator,
    max_pair_moves: int = MAX_PAIR_MOVES,
) -> None:
    """Move by single genes, then by pairs of genes, while that leads to something better.

    Neighbours that some earlier climb has priced are not visited again: whatever is found stays
    in the ledger, where the best of all climbs is read.

    Args:
        ledger: Prices and remembers.
        start: One row.
        choose: The better of rows: most accurate within the limit, or fastest.
        rng: Picks pairs where there are too many.
        max_pair_moves: Pair moves looked at from one subnet; a random subset where there are more.
    """
    best = start
    while True:
        genome = as_genome(best.genomes[0])
        improved = _better(best, ledger, single_moves(genome, ledger.space.choices), choose)
        if improved is None:
            moves = _some(pair_moves(genome, ledger.space.choices), max_pair_moves, rng)
            improved = _better(best, ledger, moves, choose)
        if improved is None:
            return
        best = improved


def fastest_known(ledger: Ledger, rng: np.random.Generator, n_random: int) -> Evaluation:
    """Find the fastest subnet that fits: climb on latency from the extremes and random ones."""
    space = ledger.space
    starts: list[Genome] = [space.smallest(), space.largest()]
    starts += [space.sample(rng) for _ in range(n_random)]
    first = ledger.evaluate(as_genomes(starts), with_all_accuracies=True)
    climb(ledger, first.fastest(), Evaluation.fastest, rng)
    climb(ledger, first.take(np.array([len(first.genomes) - 1])), Evaluation.fastest, rng)
    return ledger.everything().fastest()


def leanest_known(ledger: Ledger, rng: np.random.Generator) -> Evaluation:
    """Find the subnet whose activations take the fewest bytes: climb from the best one known."""
    climb(ledger, ledger.everything().leanest(), Evaluation.leanest, rng)
    return ledger.everything().leanest()


def _better(best: Evaluation, ledger: Ledger, moves: Genomes, choose: Choose) -> Evaluation | None:
    rows = choose(ledger.evaluate(moves))
    if not len(rows.genomes):
        return None
    found = rows.head(1)
    winner = choose(best.join(found))
    return found if np.array_equal(winner.genomes[0], found.genomes[0]) else None


def _some(moves: Genomes, n_most: int, rng: np.random.Generator) -> Genomes:
    if len(moves) <= n_most:
        return moves
    return moves[rng.choice(len(moves), n_most, replace=False)]
