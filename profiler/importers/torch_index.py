"""Tensors indexed by tensors, in Relax."""

from __future__ import annotations

import math
from typing import Any

import torch
from tvm import relax

Shape = tuple[int, ...]


def index(importer: Any, node: torch.fx.Node) -> Any:
    """`aten.index`: axes that have an index are flattened, and one gather runs along them.

    Axes of the result stand where the indexed ones stood, or first where others are between those.
    """
    x, indices = importer.retrieve_args(node)
    emit = importer.block_builder.emit
    axes = [axis for axis, each in enumerate(indices) if each is not None]
    if any(str(indices[axis].ty.dtype) == "bool" for axis in axes):
        raise ValueError("a mask as an index makes a shape that depends on the data")
    shape = _extents(x)
    if axes != list(range(axes[0], axes[-1] + 1)):
        order = [*axes, *(axis for axis in range(len(shape)) if axis not in axes)]
        x = emit(relax.op.permute_dims(x, order))
        indices = [indices[axis] for axis in axes]
        shape, axes = tuple(shape[axis] for axis in order), list(range(len(axes)))
    first, last = axes[0], axes[-1] + 1
    places = _places(importer, [indices[axis] for axis in axes], shape[first:last])
    made = _extents(places)
    flat = emit(relax.op.reshape(x, (*shape[:first], math.prod(shape[first:last]), *shape[last:])))
    flat_places = emit(relax.op.reshape(places, (math.prod(made),)))
    taken = emit(relax.op.take(flat, flat_places, first, "clip"))
    return emit(relax.op.reshape(taken, (*shape[:first], *made, *shape[last:])))


def _places(importer: Any, indices: list[Any], extents: Shape) -> Any:
    """Where the chosen elements lie in the flattened axes; negative indices count from the end."""
    emit = importer.block_builder.emit
    total = None
    for each, extent in zip(indices, extents, strict=True):
        index = each
        if str(index.ty.dtype) != "int64":
            index = emit(relax.op.astype(index, "int64"))
        size, zero = relax.const(extent, "int64"), relax.const(0, "int64")
        from_end = emit(relax.op.add(index, size))
        index = emit(relax.op.where(emit(relax.op.less(index, zero)), from_end, index))
        if total is not None:
            index = emit(relax.op.add(emit(relax.op.multiply(total, size)), index))
        total = index
    return total


def _extents(tensor: Any) -> Shape:
    return tuple(int(extent) for extent in tensor.ty.shape.values)
