"""Which operators and networks of a space are worth measuring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.operator import Operator
from searchspace.genes import Genome, Genomes
from searchspace.space import SearchSpace

_N_WALKERS = 512
_N_STEPS = 200
_MIXED_SHARE = 0.15  # of a genome's genes come from another walker in one step


@dataclass(frozen=True, slots=True)
class Design:
    """What is measured.

    Attributes:
        operators: Operators that are measured by themselves.
        genomes: Networks that are measured whole; they hold no other operator.
    """

    operators: tuple[Operator, ...]
    genomes: tuple[Genome, ...]


def choose_design(
    space: SearchSpace, n_networks: int, share: float, rng: np.random.Generator
) -> Design:
    """Choose a share of the operators, and networks that hold only those.

    The operators are those of the smallest, the largest and random subnets, as many as the share
    asks for; the networks are recombinations of these subnets, chosen one by one so that the
    operators seen least come next.

    Raises:
        ValueError: n_networks below 1, or share outside (0, 1].
    """
    if n_networks < 1:
        raise ValueError(f"n_networks must be >= 1, got {n_networks}")
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    operators = space.operators()
    if share == 1.0:
        allowed = np.ones(len(operators), dtype=np.bool_)
        pool = _sample(space, 10 * n_networks + 200, rng)
    else:
        seeds, allowed = _seeds(space, share, rng)
        pool = _recombine(space, seeds, allowed, rng)
    pool = np.unique(pool, axis=0)
    chosen = _cover(_holds(space, pool), n_networks)
    kept = tuple(op for op, keep in zip(operators, allowed, strict=True) if keep)
    return Design(kept, tuple(tuple(map(int, pool[row])) for row in chosen))


def _sample(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    return np.array([space.sample(rng) for _ in range(n)], dtype=np.int64)


def _holds(space: SearchSpace, genomes: Genomes) -> NDArray[np.bool_]:
    """Whether each subnet holds each operator, shape (n_subnets, n_operators)."""
    return np.asarray(space.counts(genomes).counts > 0, dtype=np.bool_)


def _seeds(
    space: SearchSpace, share: float, rng: np.random.Generator
) -> tuple[Genomes, NDArray[np.bool_]]:
    """Subnets that together hold the share of the operators, and which operators those are."""
    seeds = [space.smallest(), space.largest()]
    while True:
        holds = _holds(space, np.array(seeds, dtype=np.int64))
        allowed = np.asarray(holds.any(axis=0), dtype=np.bool_)
        if allowed.mean() >= share:
            return np.array(seeds, dtype=np.int64), allowed
        seeds.append(space.sample(rng))


def _recombine(
    space: SearchSpace, seeds: Genomes, allowed: NDArray[np.bool_], rng: np.random.Generator
) -> Genomes:
    """Walk from the seeds by taking genes of one another, never to an operator not allowed."""
    walkers = seeds[np.arange(_N_WALKERS) % len(seeds)]
    seen = [walkers]
    for _ in range(_N_STEPS):
        others = walkers[rng.permutation(_N_WALKERS)]
        mixed = np.where(rng.random(walkers.shape) < _MIXED_SHARE, others, walkers)
        moved = space.canonical_many(mixed)
        good = np.asarray(~_holds(space, moved)[:, ~allowed].any(axis=1), dtype=np.bool_)
        walkers = np.where(good[:, None], moved, walkers)
        if len(seen) < _N_STEPS // 4:
            seen.append(walkers)
        else:
            seen[int(rng.integers(1, len(seen)))] = walkers  # the first holds the seeds
    return np.concatenate(seen)


def _cover(holds: NDArray[np.bool_], n_wanted: int) -> list[int]:
    """Choose rows one by one, each time the one whose operators were seen least so far."""
    seen = np.zeros(holds.shape[1])
    size = holds.sum(axis=1)
    chosen: list[int] = []
    free = np.ones(len(holds), dtype=bool)
    while len(chosen) < min(n_wanted, len(holds)):
        # Rarely seen operators weigh most; per operator, so that large networks have no advantage.
        gain = np.where(free, (holds @ (1.0 / (1.0 + seen) ** 2)) / size, -1.0)
        row = int(np.argmax(gain))
        chosen.append(row)
        free[row] = False
        seen += holds[row]
    return chosen
