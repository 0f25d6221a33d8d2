"""ONNX operators that choose parts of tensors, in Relax."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend

from profiler.importers.onnx_tensors import (
    Converter,
    const,
    dtype_of,
    known,
    known_or_refuse,
    shape_of,
)

#: Longest axis of a cumulative sum: its triangle has the square of that.
_MOST_SUMMED: Final = 2048


class Gather(Converter):
    """Slices where the indices are known and even, else loops that look them up."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        data, indices = inputs[0], inputs[1]
        shape = shape_of(data)
        axis = attr.get("axis", 0) % len(shape)
        places = known(indices)
        if places is None:
            extent = const(shape[axis], dtype_of(indices))
            return relax.op.take(data, _from_start(bb, indices, extent), axis, "clip")
        places = np.where(places < 0, places + shape[axis], places)
        if places.size and (places.min() < 0 or places.max() >= shape[axis]):
            raise ValueError(f"Gather reads index {places.max()} of an axis of {shape[axis]}")
        steps = np.diff(places.reshape(-1))
        if places.ndim > 1 or places.size == 0 or (steps.size and len({1, *steps}) > 1):
            return relax.op.take(data, const(places, "int64"), axis, "clip")
        first = int(places.reshape(-1)[0])
        part = relax.op.strided_slice(data, [axis], [first], [first + places.size])
        return part if places.ndim else relax.op.squeeze(bb.normalize(part), [axis])


class Slice(Converter):
    """Slices of the oldest form, whose numbers are attributes."""

    @classmethod
    def _impl_v1(cls, _bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        starts, ends = list(attr["starts"]), list(attr["ends"])
        axes = list(attr.get("axes", range(len(starts))))
        return relax.op.strided_slice(inputs[0], axes, starts, ends)

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        return onnx_frontend.Slice._impl_v13(bb, inputs, attr, params)


class TopK(Converter):
    """The largest or smallest in order, each put where its rank says."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        count = attr["k"] if inputs[1] is None else known_or_refuse(inputs[1], "TopK's k")
        axis = attr.get("axis", -1) % len(shape_of(inputs[0]))
        is_largest = bool(attr.get("largest", 1))
        made = bb.emit_te(
            _largest, inputs[0], int(np.reshape(count, ())), axis, is_largest,
            primfunc_name_hint="topk",
        )  # fmt: skip
        return relax.Tuple([bb.emit(relax.TupleGetItem(made, place)) for place in (0, 1)])


def _largest(x: Any, count: int, axis: int, is_largest: bool) -> list[Any]:
    """Values and places of the first `count` along an axis; of equals the first comes first."""
    shape = list(x.shape)
    extent = shape[axis]
    before = te.reduce_axis((0, extent), name="before")

    def at(place: tuple[Any, ...], other: Any) -> tuple[Any, ...]:
        return (*place[:axis], other, *place[axis + 1 :])

    def is_ahead(*place: Any) -> Any:
        own, other = x[place], x[at(place, before)]
        is_better = other > own if is_largest else other < own
        comes = tirx.any(is_better, tirx.all(other == own, before < place[axis]))
        return te.sum(tirx.Cast("int32", comes), axis=before)

    rank = te.compute(shape, is_ahead, name="rank")
    source = te.reduce_axis((0, extent), name="source")
    last = te.reduce_axis((0, extent), name="last")

    def value(*place: Any) -> Any:
        here = at(place, source)
        is_it = rank[here] == tirx.Cast("int32", place[axis])
        return te.max(tirx.if_then_else(is_it, x[here], tirx.min_value(x.dtype)), axis=source)

    def index(*place: Any) -> Any:
        here = rank[at(place, last)] == tirx.Cast("int32", place[axis])
        found = tirx.if_then_else(here, tirx.Cast("int64", last), tirx.const(0, "int64"))
        return te.max(found, axis=last)

    wanted = [*shape[:axis], count, *shape[axis + 1 :]]
    return [te.compute(wanted, value, name="values"), te.compute(wanted, index, name="indices")]


class OneHot(Converter):
    """A comparison with all places."""

    @classmethod
    def _impl_v9(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        depth = int(np.reshape(known_or_refuse(inputs[1], "OneHot's depth"), ()))
        off, on = known_or_refuse(inputs[2], "OneHot's values")
        dtype, rank = dtype_of(inputs[0]), len(shape_of(inputs[0])) + 1
        axis = attr.get("axis", -1) % rank
        indices = _from_start(bb, inputs[0], const(depth, dtype))
        indices = bb.normalize(relax.op.expand_dims(indices, axis))
        places = np.arange(depth).reshape([depth if a == axis else 1 for a in range(rank)])
        is_it = bb.normalize(relax.op.equal(indices, const(places, dtype)))
        kind = dtype_of(inputs[2])
        return relax.op.where(is_it, const(on, kind), const(off, kind))


class CumSum(Converter):
    """A product with a triangle of ones."""

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x, rank = inputs[0], len(shape_of(inputs[0]))
        axis = int(np.reshape(known_or_refuse(inputs[1], "CumSum's axis"), ())) % rank
        extent = shape_of(x)[axis]
        if extent > _MOST_SUMMED:
            raise ValueError(f"CumSum over {extent} numbers cannot be imported")
        triangle = np.triu(np.ones((extent, extent)), 1 if attr.get("exclusive", 0) else 0)
        if attr.get("reverse", 0):
            triangle = triangle.T
        to_last = [*(a for a in range(rank) if a != axis), axis]
        x = bb.normalize(relax.op.permute_dims(x, to_last))
        total = bb.normalize(relax.op.matmul(x, const(triangle, dtype_of(x))))
        return relax.op.permute_dims(total, [int(n) for n in np.argsort(to_last)])


class Tile(Converter):
    """A broadcast over an axis before each axis that is repeated; the reshapes move nothing."""

    @classmethod
    def _impl_v6(cls, bb: Any, inputs: Any, _attr: Any, _params: Any) -> Any:
        x, shape = inputs[0], shape_of(inputs[0])
        counts = [int(n) for n in known_or_refuse(inputs[1], "Tile's repeats")]
        pairs = list(zip(counts, shape, strict=True))
        split = bb.normalize(relax.op.reshape(x, [n for size in shape for n in (1, size)]))
        made = bb.normalize(relax.op.broadcast_to(split, [n for pair in pairs for n in pair]))
        return relax.op.reshape(made, [count * size for count, size in pairs])


class ReverseSequence(Converter):
    """The first numbers of each sequence in reverse."""

    @classmethod
    def _impl_v10(cls, _bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        time, batch = attr.get("time_axis", 0), attr.get("batch_axis", 1)
        return relax.op.reverse_sequence(inputs[0], inputs[1], time, batch)


def _from_start(bb: Any, indices: Any, extent: Any) -> Any:
    """Indices of which those below 0 count from the end."""
    zero = const(0, dtype_of(indices))
    is_negative = bb.normalize(relax.op.less(indices, zero))
    shifted = bb.normalize(relax.op.add(indices, extent))
    return bb.normalize(relax.op.where(is_negative, shifted, indices))


def axis_extent(_bb: Any, data: Any, axis: int, dtype: str) -> Any:
    """For TVM's conversions, which would ask the tensor while the model runs."""
    return const(shape_of(data)[axis], dtype)


def coordinate_extents(_bb: Any, data: Any, indices: Any, start_axis: int) -> Any:
    """The same for the axes that each index of an index vector counts along."""
    n_axes = shape_of(indices)[-1]
    extents = shape_of(data)[start_axis : start_axis + n_axes]
    return const(extents, dtype_of(indices))
