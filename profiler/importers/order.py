"""In which order a tensor's axes lie in memory, and which reshapes move nothing.

An order names, from the slowest axis to the fastest, the model's axis that lies there: an image
(batch, channels, height, width) kept as NHWC has the order (0, 2, 3, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Order = tuple[int, ...]
Shape = tuple[int, ...]


def identity(rank: int) -> Order:
    """The order in which the model names its axes."""
    return tuple(range(rank))


def stored_shape(shape: Shape, order: Order) -> Shape:
    """Extents as they lie in memory."""
    return tuple(shape[axis] for axis in order)


def is_same_memory(shape: Shape, one: Order, other: Order) -> bool:
    """Whether two orders put every number at the same place: they differ by axes of extent 1."""
    return [a for a in one if shape[a] > 1] == [a for a in other if shape[a] > 1]


def transposed(order: Order, axes: Sequence[int]) -> Order:
    """The order of a tensor whose axes are renamed: new axis i was `axes[i]`; nothing moves."""
    new_name = {old: new for new, old in enumerate(axes)}
    return tuple(new_name[axis] for axis in order)


def reshaped(shape: Shape, order: Order, new_shape: Shape) -> Order | None:
    """The order of a tensor with another shape over the same memory; None if it has to move.

    Axes are cut into the smallest groups of which each becomes a group of new axes with as many
    elements. A group that is more than one axis must lie together in memory, in its own order.
    """
    groups = reshape_groups(shape, new_shape)
    if groups is None:
        return None
    position = {axis: place for place, axis in enumerate(order)}
    placed: list[tuple[int, list[int]]] = []
    for old_axes, new_axes in groups:
        large = [axis for axis in old_axes if shape[axis] > 1]
        places = [position[axis] for axis in large]
        between = [a for a in order if shape[a] > 1]
        ranks = [between.index(axis) for axis in large]
        if ranks != list(range(ranks[0], ranks[0] + len(ranks))) if ranks else False:
            return None
        placed.append((places[0] if places else len(order), new_axes))
    placed.sort(key=lambda pair: pair[0])
    return tuple(axis for _, axes in placed for axis in axes)


def movable(shape: Shape, order: Order, new_shape: Shape) -> Order:
    """The order nearest to a tensor's own from which a reshape moves nothing.

    Axes that become one, or that are cut anew together, are put side by side at the place of the
    last of them in memory; the others stay where they are.
    """
    groups = reshape_groups(shape, new_shape)
    if groups is None:
        raise ValueError(f"a reshape keeps the number of elements, got {shape} to {new_shape}")
    position = {axis: place for place, axis in enumerate(order)}
    placed = sorted(
        (max((position[a] for a in old if shape[a] > 1), default=-1), old) for old, _ in groups
    )
    return tuple(axis for _, old in placed for axis in old)


def reshape_groups(shape: Shape, new_shape: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Smallest groups of old and new axes with equal products; None if the sizes differ."""
    if math.prod(shape) != math.prod(new_shape):
        return None
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(shape) or j < len(new_shape):
        old: list[int] = []
        new: list[int] = []
        n_old = n_new = 1
        if i < len(shape):
            old.append(i)
            n_old = shape[i]
            i += 1
        if j < len(new_shape):
            new.append(j)
            n_new = new_shape[j]
            j += 1
        while n_old != n_new:
            if n_old < n_new:
                old.append(i)
                n_old *= shape[i]
                i += 1
            else:
                new.append(j)
                n_new *= new_shape[j]
                j += 1
        groups.append((old, new))
    return groups
