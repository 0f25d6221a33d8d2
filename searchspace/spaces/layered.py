"""A search space whose subnets are layers in fixed slots: everything but the layers themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from profiler.network import Network, OperatorCounts
from profiler.operator import Operator
from searchspace.genes import (
    Choices,
    Genome,
    Genomes,
    as_genome,
    as_genomes,
    check_genome,
    cross_genes,
    mutate_genes,
    sample_genes,
)
from searchspace.spaces.layers import Layers
from searchspace.spaces.lowering import Shape4, layer_operators, lower_layers
from searchspace.spaces.memory import SlotPeaks, find_slot_peaks

if TYPE_CHECKING:
    import torch

#: Rows that `counts` handles at a time: the one-hot matrix of a chunk stays inside a few MB.
_CHUNK: Final = 4096


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the network: the layers that each of its codes puts there.

    Attributes:
        input_shape: NHWC shape that reaches the slot, whatever the other slots hold.
        layers: One run of layers a code; an empty run for identity or an inactive slot.
    """

    input_shape: Shape4
    layers: tuple[Layers, ...]


@dataclass(frozen=True)  # no slots: the tables are cached properties
class LayeredSpace:
    """Subnets made of slots; implements `searchspace.space.SearchSpace`.

    Attributes:
        name: As in `SPACE:GENOME`.
        choices: The values each gene may take, ascending.
        n_subnets: Distinct canonical genomes.
        input_shape: NHWC shape of the network's input.
        slots: All slots in order of execution, those without a choice as well.
        codes_of: Genomes (n_subnets, n_genes), canonical or not -> the code in each slot,
            (n_subnets, n_slots), an index into `Slot.layers`.
        canonicalise: Genomes in, canonical genomes out, both (n_subnets, n_genes).
        parse_text: Text -> genome; ValueError names the text and the rule.
        format_genome: Canonical genome -> text.
        extremes: The smallest and the largest subnet, in multiply-accumulates.
    """

    name: str
    choices: Choices
    n_subnets: int
    input_shape: Shape4
    slots: tuple[Slot, ...]
    codes_of: Callable[[Genomes], NDArray[np.int64]]
    canonicalise: Callable[[Genomes], Genomes]
    parse_text: Callable[[str], Genome]
    format_genome: Callable[[Genome], str]
    extremes: tuple[Genome, Genome]

    @property
    def n_genes(self) -> int:
        """Length of a genome."""
        return len(self.choices)

    def smallest(self) -> Genome:
        """The subnet with the fewest multiply-accumulates."""
        return self.extremes[0]

    def largest(self) -> Genome:
        """The subnet with the most multiply-accumulates."""
        return self.extremes[1]

    def sample(self, rng: np.random.Generator) -> Genome:
        """Draw each gene uniformly; the result is canonical."""
        return as_genome(self.canonicalise(sample_genes(self.choices, rng, 1))[0])

    def mutate(self, genome: Genome, rng: np.random.Generator, probability: float) -> Genome:
        """Change each gene with this probability; the result is canonical."""
        parents = as_genomes([self.canonical(genome)])
        return as_genome(
            self.canonicalise(mutate_genes(parents, self.choices, rng, probability))[0]
        )

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """Take each gene from either parent; the result is canonical."""
        parents = as_genomes([self.canonical(a), self.canonical(b)])
        return as_genome(self.canonicalise(cross_genes(parents[:1], parents[1:], rng))[0])

    def canonical(self, genome: Genome) -> Genome:
        """The genome that stands for this genome's network; ValueError if not in the space."""
        check_genome(genome, self.choices, self.name)
        return as_genome(self.canonicalise(as_genomes([genome]))[0])

    def canonical_many(self, genomes: Genomes) -> Genomes:
        """The canonical genome of each row, shape (n_subnets, n_genes), unchecked."""
        return self.canonicalise(genomes)

    def parse(self, text: str) -> Genome:
        """Read a canonical genome; ValueError names the text and the rule."""
        return self.canonical(self.parse_text(text))

    def format(self, genome: Genome) -> str:
        """The text of a genome's network."""
        return self.format_genome(self.canonical(genome))

    def layers(self, genome: Genome) -> Layers:
        """The layers of a subnet in order of execution."""
        codes = self.codes_of(as_genomes([self.canonical(genome)]))[0]
        runs = (slot.layers[code] for slot, code in zip(self.slots, codes, strict=True))
        return tuple(layer for run in runs for layer in run)

    def lower(self, genome: Genome) -> Network:
        """The subnet as operators in NHWC; its name is `SPACE:GENOME`."""
        name = f"{self.name}:{self.format(genome)}"
        return lower_layers(name, self.input_shape, self.layers(genome))

    def operators(self) -> tuple[Operator, ...]:
        """Every operator that any subnet can hold; always the same tuple."""
        return self._table.operators

    def counts(self, genomes: Genomes) -> OperatorCounts:
        """Count every row's operators.

        Args:
            genomes: Shape (n_subnets, n_genes), values in the space, canonical or not.

        Returns:
            Shape (n_subnets, len(operators())); 100,000 subnets take about half a second.
        """
        table = self._table
        counts = np.empty((len(genomes), len(table.operators)))
        for start in range(0, len(genomes), _CHUNK):
            columns = self.codes_of(genomes[start : start + _CHUNK]) + table.first_rows
            n_rows, n_slots = columns.shape
            shape = (n_rows, len(table.contributions))
            row_ends = np.arange(0, n_rows * n_slots + 1, n_slots)
            one_hot = csr_array((np.ones(columns.size), columns.ravel(), row_ends), shape=shape)
            counts[start : start + _CHUNK] = one_hot @ table.contributions
        return OperatorCounts(table.operators, counts)

    def peak_activation_bytes(self, genomes: Genomes) -> NDArray[np.int64]:
        """Bytes of the arena that each row's activations take.

        Args:
            genomes: Shape (n_subnets, n_genes), values in the space, canonical or not.

        Returns:
            Shape (n_subnets,); 100,000 subnets take a fraction of a second.
        """
        return self._peaks.peak_bytes(self.codes_of(genomes) + self._table.first_rows)

    def module(self, genome: Genome, rng: np.random.Generator) -> torch.nn.Module:
        """Build the subnet with seeded random, UNTRAINED weights and calibrated batch-norm.

        NCHW, in eval mode; the input is (n, channels, height, width) of `input_shape`.
        """
        from searchspace.spaces.calibrate import calibrate, initialise  # noqa: PLC0415 torch
        from searchspace.spaces.modules import build_module  # noqa: PLC0415 torch

        module = build_module(self.layers(genome))
        initialise(module, rng)
        calibrate(module, self.input_shape, rng)
        return module

    def weights(self, module: torch.nn.Module) -> dict[str, NDArray[np.float32]]:
        """The module's weights, batch-norm folded, in `Operator.weight_shapes` layouts."""
        from searchspace.spaces.modules import folded_weights  # noqa: PLC0415 torch

        return folded_weights(module)

    @cached_property
    def _table(self) -> _Table:
        return _tabulate(self.slots)

    @cached_property
    def _peaks(self) -> SlotPeaks:
        runs = [(layers, slot.input_shape) for slot in self.slots for layers in slot.layers]
        return find_slot_peaks(runs, self.input_shape)


@dataclass(frozen=True, slots=True)
class _Table:
    """Operators that each (slot, code) contributes.

    Attributes:
        operators: The columns.
        contributions: Shape (n_slot_codes, n_operators), slots one below the other.
        first_rows: Shape (n_slots,), the row of each slot's code 0.
    """

    operators: tuple[Operator, ...]
    contributions: NDArray[np.float64]
    first_rows: NDArray[np.int64]


@cache
def _tabulate(slots: tuple[Slot, ...]) -> _Table:
    runs = [layer_operators(layers, slot.input_shape) for slot in slots for layers in slot.layers]
    columns: dict[Operator, int] = {}
    for operator in (operator for run in runs for operator in run):
        columns.setdefault(operator, len(columns))
    contributions = np.zeros((len(runs), len(columns)))
    for row, run in enumerate(runs):
        for operator in run:
            contributions[row, columns[operator]] += 1.0
    n_codes = np.array([len(slot.layers) for slot in slots])
    first_rows = np.concatenate([[0], np.cumsum(n_codes)[:-1]]).astype(np.int64)
    return _Table(tuple(columns), contributions, first_rows)
