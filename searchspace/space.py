"""What a search space is, and how one is found by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from profiler.network import Network, OperatorCounts
from profiler.operator import Operator
from searchspace.genes import Choices, Genome, Genomes

if TYPE_CHECKING:
    import torch

#: Built-in spaces: name -> "module:object".
BUILT_IN: Final = {
    "nas_bench_macro": "searchspace.spaces.nas_bench_macro:NAS_BENCH_MACRO",
    "ofa_mbv3": "searchspace.spaces.ofa_mbv3:OFA_MBV3",
}


class UnknownSpaceError(ValueError):
    """No search space has this name: use one that the message lists, or `module:object`."""


@runtime_checkable
class SearchSpace(Protocol):
    """A set of networks, each named by an integer genome.

    Several genomes may stand for one network; `canonical` picks one of them. Every genome that a
    space hands out is canonical. `LayeredSpace` implements this for networks made of layers.
    """

    @property
    def name(self) -> str:
        """The name in `SPACE:GENOME`."""
        ...

    @property
    def choices(self) -> Choices:
        """The values each gene may take, ascending; any combination is in the space."""
        ...

    @property
    def n_genes(self) -> int:
        """Length of a genome."""
        ...

    @property
    def n_subnets(self) -> int:
        """How many distinct canonical genomes there are."""
        ...

    def smallest(self) -> Genome:
        """The subnet with the fewest multiply-accumulates."""
        ...

    def largest(self) -> Genome:
        """The subnet with the most multiply-accumulates."""
        ...

    def sample(self, rng: np.random.Generator) -> Genome:
        """Draw a random canonical genome."""
        ...

    def mutate(self, genome: Genome, rng: np.random.Generator, probability: float) -> Genome:
        """Change each gene with this probability; the result is canonical."""
        ...

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """Mix two genomes gene by gene; the result is canonical."""
        ...

    def canonical(self, genome: Genome) -> Genome:
        """The one genome that stands for this genome's network; ValueError if not in the space."""
        ...

    def canonical_many(self, genomes: Genomes) -> Genomes:
        """The canonical genome of each row, shape (n_subnets, n_genes) in and out, unchecked."""
        ...

    def parse(self, text: str) -> Genome:
        """Read a canonical genome from its text; ValueError names the text and the rule."""
        ...

    def format(self, genome: Genome) -> str:
        """The text of a genome's network; `parse` reads it back."""
        ...

    def lower(self, genome: Genome) -> Network:
        """The subnet as operators; its name is `SPACE:GENOME`."""
        ...

    def counts(self, genomes: Genomes) -> OperatorCounts:
        """Count every row's operators; columns are always `operators()`, the same tuple."""
        ...

    def peak_activation_bytes(self, genomes: Genomes) -> NDArray[np.int64]:
        """Bytes of the arena that each row's activations take, as `plan_arena` plans it.

        Shape (n_subnets,). A space without a faster way plans each row:
        `plan_arena(self.lower(genome)).arena_bytes`.
        """
        ...

    def operators(self) -> tuple[Operator, ...]:
        """Every operator that any subnet can hold, in a fixed order."""
        ...

    def module(self, genome: Genome, rng: np.random.Generator) -> torch.nn.Module:
        """An untrained torch module in eval mode, calibrated so that outputs differ by input."""
        ...

    def weights(self, module: torch.nn.Module) -> dict[str, NDArray[np.float32]]:
        """The weights of a module of `module`, batch-norm folded, as `lower`'s calls name them."""
        ...


def load_space(name: str) -> SearchSpace:
    """Find a search space: a built-in name or `module:object`.

    Raises:
        UnknownSpaceError: nothing of that name exists, or it is not a search space.
    """
    path = BUILT_IN.get(name, name)
    module_name, colon, attribute = path.partition(":")
    known = ", ".join(BUILT_IN)
    if not colon or not module_name or not attribute or module_name.startswith("."):
        raise UnknownSpaceError(
            f"no search space is named {name!r}; known are {known}, or give module:object"
        )
    try:
        found: object = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownSpaceError(
            f"search space {name!r} cannot be loaded ({error}); known are {known}"
        ) from error
    if not isinstance(found, SearchSpace):
        raise UnknownSpaceError(
            f"{name!r} is not a search space (see searchspace.space.SearchSpace); known are {known}"
        )
    return found


def parse_subnet(text: str) -> tuple[SearchSpace, Genome]:
    """Read `SPACE:GENOME`, where SPACE may itself be `module:object`.

    Raises:
        ValueError: there is no colon, or the genome is malformed.
        UnknownSpaceError: no such space.
    """
    space_name, colon, genome_text = text.rpartition(":")
    if not colon:
        raise ValueError(f"a subnet is written SPACE:GENOME, got {text!r}")
    space = load_space(space_name)
    return space, space.parse(genome_text)
