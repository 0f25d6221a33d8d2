"""ONNX operators that choose parts of tensors, in Relax."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from profiler.importers.onnx_tensors import Converter, const, dtype_of, known, shape_of


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
    """The largest, whether their number is an attribute or an input."""

    @classmethod
    def _impl_v1(cls, _bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        count = attr["k"] if inputs[1] is None else known(inputs[1])
        if count is None:
            raise ValueError("TopK's k depends on the model's inputs, which Latloop cannot import")
        return relax.op.topk(
            inputs[0],
            int(np.reshape(count, ())),
            attr.get("axis", -1),
            "both",
            bool(attr.get("largest", 1)),
            "int64",
        )


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
