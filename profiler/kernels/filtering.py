"""The transforms of minimal filtering along one axis of a square, as sums of named vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from profiler.kernels.tir import (
    Expression,
    RegisterFile,
    Statement,
    block,
    number,
)
from profiler.minimal_filtering import Filtering

#: Gives the vector at a place along the axis; None stands for zeros.
Read = Callable[[int], Expression | None]
#: Keeps a vector for a place along the axis.
Write = Callable[[int, Expression], Statement]


class Transforms:
    """Code of both transforms.

    Args:
        filtering: The matrices.
        registers: Of the kernel.
        lanes: Of all vectors.
    """

    def __init__(self, filtering: Filtering, registers: RegisterFile, lanes: int) -> None:
        self._filtering = filtering
        self._lanes = lanes
        self._named = registers.area("named", filtering.side, lanes)
        self._summed = registers.area("summed", filtering.side, lanes)

    def into_products(self, read: Read, write: Write) -> Statement:
        """B^T = H Q: from `side` inputs to `side` factors."""
        return block(
            *(
                self._named.put(k, self._combine(row, read))
                for k, row in enumerate(self._filtering.image)
            ),
            *self._add_pairs(write),
        )

    def from_products(self, read: Read, write: Write, n_outputs: int) -> Statement:
        """A^T = R H: from `side` products to the first few of `size` outputs."""
        return block(
            *(self._named.put(k, read(k)) for k in range(self._filtering.side)),
            *self._add_pairs(self._summed.put),
            *(
                write(k, self._combine(row, self._summed.__getitem__))
                for k, row in enumerate(self._filtering.result[:n_outputs])
            ),
        )

    def _add_pairs(self, write: Write) -> Iterator[Statement]:
        """H: the sum and the difference of each pair."""
        named, last = self._named, self._filtering.side - 1
        yield write(0, named[0])
        for k in self._filtering.pairs():
            yield write(k, named[k] + named[k + 1])
            yield write(k + 1, named[k] - named[k + 1])
        yield write(last, named[last])

    def _combine(self, factors: Sequence[Any], read: Read) -> Expression:
        """The sum of vectors times numbers."""
        total = None
        for index, factor in enumerate(factors):
            value = read(index) if factor else None
            if value is None:
                continue
            term = value if factor == 1 else value * number(float(factor), self._lanes)
            total = term if total is None else total + term
        return number(0.0, self._lanes) if total is None else total
