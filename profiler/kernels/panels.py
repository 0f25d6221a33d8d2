"""Tiles of sums, and the panels of packed weights that their terms are multiplied with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from profiler.kernels.tasks import WHOLE, Part
from profiler.kernels.tir import Expression, Registers, Statement, block, number, spread
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs, last_apart

#: No tile has more sums than a processor has registers.
MOST_SUMS: Final = 32


@dataclass(frozen=True, slots=True)
class Tile:
    """Sums of some outputs x vectors of neighbouring channels, all in registers.

    Attributes:
        registers: What holds the sums, output by output.
        n_rows: Outputs: rows of a product, pixels of an image.
        n_vectors: Of each output.
    """

    registers: Registers
    n_rows: int
    n_vectors: int

    def __getitem__(self, place: tuple[int, int]) -> Expression:
        row, vector = place
        return self.registers[row * self.n_vectors + vector]

    def put(self, row: int, vector: int, value: Expression) -> Statement:
        """Set one of the sums."""
        return self.registers.put(row * self.n_vectors + vector, value)

    def start(self, value: Callable[[int], Expression]) -> Statement:
        """Set the sums of every row to what each vector starts with."""
        return block(
            *(
                self.put(row, v, value(v))
                for row in range(self.n_rows)
                for v in range(self.n_vectors)
            )
        )

    def add_products(
        self,
        rows: Sequence[int],
        factor: Callable[[int], Expression],
        vector: Callable[[int], Expression],
    ) -> Statement:
        """Add a term to the sums of some rows.

        Args:
            rows: Those that have such a term.
            factor: The number of a row that all vectors of the term are multiplied with.
            vector: What it is multiplied with, for each vector of the tile.
        """
        lanes = self.registers.lanes
        return block(
            *(
                self.put(row, v, self[row, v] + spread(factor(row), lanes) * vector(v))
                for row in rows
                for v in range(self.n_vectors)
            )
        )

    def values(self) -> list[list[Expression]]:
        """The sums, a list for each row."""
        return [[self[row, v] for v in range(self.n_vectors)] for row in range(self.n_rows)]

    def means(self, n_terms: int) -> list[list[Expression]]:
        """The sums divided by the number of their terms."""
        share = number(1 / n_terms, self.registers.lanes)
        return [[total * share for total in row] for row in self.values()]


@dataclass(frozen=True, slots=True)
class Panel:
    """Vectors of output channels whose weights lie together, term by term.

    Attributes:
        group: To which it belongs.
        first: Its first vector, counted in its group.
        n_vectors: How many it has.
        n_channels: How many channels, of a group's last panel, whose last vector may be ragged;
            None of the others, which are full.
    """

    group: Expression
    first: Expression
    n_vectors: int
    n_channels: int | None


class Panels:
    """All panels of an operator's weights, as `pack_weights` cuts them.

    Attributes:
        width: Channels of a group.
        n_vectors: Vectors that hold them.
    """

    def __init__(self, operator: Operator, schedule: Schedule) -> None:
        self._n_groups = operator.groups
        self._lanes = schedule["lanes"]
        self.width = operator.out_channels // operator.groups
        self.n_vectors = -(-self.width // self._lanes)
        # The last one apart: a ragged end is written where its place is known.
        self._runs = last_apart(even_runs(self.n_vectors, schedule["vectors"]))

    def over(self, part: Part, body: Callable[[Panel], Statement]) -> Statement:
        """Run a body for each panel of each group; tasks share groups if there are any."""
        groups, panels = (part, WHOLE) if self._n_groups > 1 else (WHOLE, part)
        return groups.loop(
            self._n_groups,
            lambda group: panels.over(
                self._runs,
                lambda first, n: body(Panel(group, first, n, self._n_channels(first, n))),
            ),
        )

    def _n_channels(self, first: Expression, n_vectors: int) -> int | None:
        if not isinstance(first, int) or first + n_vectors < self.n_vectors:
            return None
        return self.width - first * self._lanes
