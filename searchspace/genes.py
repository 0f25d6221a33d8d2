"""Integer genomes: the moves that any space with independent genes shares, many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Genome = tuple[int, ...]
#: Shape (n_subnets, n_genes), one genome a row.
Genomes = NDArray[np.int64]
#: The values each gene may take, one tuple a gene, ascending.
Choices = tuple[tuple[int, ...], ...]


def sample_genes(choices: Choices, rng: np.random.Generator, n_subnets: int) -> Genomes:
    """Draw each gene uniformly from its choices, shape (n_subnets, n_genes)."""
    columns = [rng.choice(np.array(values), size=n_subnets) for values in choices]
    return np.stack(columns, axis=1).astype(np.int64)


def mutate_genes(
    genomes: Genomes, choices: Choices, rng: np.random.Generator, probability: float
) -> Genomes:
    """Replace each gene, with this probability, by another of its choices.

    Raises:
        ValueError: the probability lies outside [0, 1].
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    mutants = genomes.copy()
    is_hit = rng.random(genomes.shape) < probability
    for gene, values in enumerate(choices):
        hit = np.flatnonzero(is_hit[:, gene])
        if hit.size and len(values) > 1:
            table = np.array(values)
            position = np.searchsorted(table, genomes[hit, gene])
            step = rng.integers(1, len(values), size=hit.size)
            mutants[hit, gene] = table[(position + step) % len(values)]
    return mutants


def cross_genes(a: Genomes, b: Genomes, rng: np.random.Generator) -> Genomes:
    """Take each gene from one parent or the other with equal chance (uniform crossover)."""
    return np.where(rng.random(a.shape) < 0.5, a, b)


def single_moves(genome: Genome, choices: Choices) -> Genomes:
    """Every genome that differs from this one in one gene, shape (n_moves, n_genes)."""
    rows = [
        [*genome[:gene], value, *genome[gene + 1 :]]
        for gene, values in enumerate(choices)
        for value in values
        if value != genome[gene]
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, len(genome))


def pair_moves(genome: Genome, choices: Choices) -> Genomes:
    """Every genome that differs from this one in two genes, shape (n_moves, n_genes)."""
    moves = [
        (gene, value)
        for gene, values in enumerate(choices)
        for value in values
        if value != genome[gene]
    ]
    genes = np.array([gene for gene, _ in moves], dtype=np.int64)
    values = np.array([value for _, value in moves], dtype=np.int64)
    first, second = np.triu_indices(len(moves), k=1)
    differ = genes[first] != genes[second]
    first, second = first[differ], second[differ]
    rows = np.tile(np.array(genome, dtype=np.int64), (len(first), 1))
    index = np.arange(len(first))
    rows[index, genes[first]] = values[first]
    rows[index, genes[second]] = values[second]
    return rows


def check_genome(genome: Sequence[int], choices: Choices, space: str) -> None:
    """Refuse a genome that is not in the space.

    Raises:
        ValueError: naming the gene, its value and its choices.
    """
    if len(genome) != len(choices):
        raise ValueError(f"a genome of {space} has {len(choices)} genes, got {len(genome)}")
    for gene, (value, values) in enumerate(zip(genome, choices, strict=True)):
        if value not in values:
            raise ValueError(f"gene {gene} of {space} must be one of {values}, got {value}")


def as_genomes(genomes: Sequence[Genome]) -> Genomes:
    """Stack genomes into an array of shape (n_subnets, n_genes)."""
    return np.array(genomes, dtype=np.int64)


def as_genome(row: NDArray[np.int64]) -> Genome:
    """Read one row of a genome array as a genome."""
    return tuple(row.tolist())


def all_genomes(choices: Choices) -> Genomes:
    """Every combination of choices in lexicographic order, shape (n_subnets, n_genes)."""
    return np.array(list(product(*choices)), dtype=np.int64)
