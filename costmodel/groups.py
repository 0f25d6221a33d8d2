"""Partitions of operators into groups that are held out together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiler.operator import Operator

Partition = NDArray[np.intp]


def _by_channels(operator: Operator) -> Hashable:
    if operator.body is not None:
        return operator.kind, operator.body.digest
    return operator.kind, operator.input_shape[3], operator.out_channels


def _by_kernel(operator: Operator) -> Hashable:
    if operator.body is not None:  # all that does the same is new in a network that does more
        return operator.kind, operator.body.name
    if operator.kernel == (1, 1):
        return _by_channels(operator)
    return operator.kind, operator.kernel, operator.stride


def _by_output(operator: Operator) -> Hashable:
    if operator.body is not None:
        return operator.kind, operator.output_bytes
    return operator.kind, operator.out_channels


#: What a new network brings that nobody measured: a width, a kernel size, a stage's channels.
GROUPINGS: Final[tuple[Callable[[Operator], Hashable], ...]] = (
    _by_channels,
    _by_kernel,
    _by_output,
)


def partition_operators(
    operators: Sequence[Operator], n_folds: int, rng: np.random.Generator
) -> tuple[Partition, ...]:
    """Deal groups of similar operators to folds, once for each grouping.

    Returns:
        One array for each grouping: the fold of each operator, shape (n_operators,). A kind
        whose groups are fewer than two is dealt operator by operator.
    """
    return tuple(_deal(operators, grouping, n_folds, rng) for grouping in GROUPINGS)


def _deal(
    operators: Sequence[Operator],
    grouping: Callable[[Operator], Hashable],
    n_folds: int,
    rng: np.random.Generator,
) -> Partition:
    folds = np.zeros(len(operators), dtype=np.intp)
    for kind in sorted({op.kind for op in operators}):
        members = [index for index, op in enumerate(operators) if op.kind == kind]
        keys: list[Hashable] = [grouping(operators[index]) for index in members]
        if len(set(keys)) < 3:
            keys = list(members)
        order = {key: position for position, key in enumerate(dict.fromkeys(keys))}
        # Rounds of a shuffled deal, so that folds differ by at most one group.
        deal = rng.permutation(len(order)) % n_folds
        for index, key in zip(members, keys, strict=True):
            folds[index] = deal[order[key]]
    return folds
