"""Products of two computed tensors, as loops that take both as they lie."""

from __future__ import annotations

from typing import Any

from tvm import te

from profiler.importers.order import Order, Shape, identity, stored_shape


def left_order(rank: int, order: Order, out_rank: int) -> Order:
    """Where a product is put: as its left factor lies, columns last."""
    if rank != out_rank:
        return identity(out_rank)
    return (*(axis for axis in order if axis != rank - 1), rank - 1)


def product(left: Any, right: Any, orders: tuple[Order, Order, Order], shape: Shape) -> Any:
    """Rows of the left times columns of the right, for each of the axes before them.

    Args:
        left: A stored tensor; axes of extent 1 before the last two are read again and again.
        right: Another one.
        orders: The orders in which left, right and the result lie.
        shape: The model's shape of the result.
    """
    rank = len(shape)
    left_axes, right_axes, out_order = (tuple(int(a) for a in order) for order in orders)
    depth = te.reduce_axis((0, left.shape[left_axes.index(len(left_axes) - 1)]), name="k")

    def read(tensor: Any, axes: Order, places: list[Any]) -> Any:
        """An element of a stored tensor at places of the model's last axes."""
        own = places[rank - len(axes) :]
        return tensor(*(0 if tensor.shape[i] == 1 else own[a] for i, a in enumerate(axes)))

    def element(*stored: Any) -> Any:
        places: list[Any] = [None] * rank
        for place, axis in zip(stored, out_order, strict=True):
            places[axis] = place
        factors = (
            read(left, left_axes, [*places[:-1], depth]),
            read(right, right_axes, [*places[:-2], depth, places[-1]]),
        )
        return te.sum(factors[0] * factors[1], axis=depth)

    return te.compute(stored_shape(shape, out_order), element, name="matmul")
