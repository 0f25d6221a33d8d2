"""What conversions ask of the Relax expressions that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend


class Converter(onnx_frontend.OnnxOpConverter):  # type: ignore[misc]  # TVM has no types
    """An operator's conversion: `_impl_vN` serves models of opset N and later.

    It is given the block builder, the inputs (None where one is left out, and beyond the last),
    and the attributes by name; texts among them are bytes.
    """


def shape_of(tensor: Any) -> tuple[int, ...]:
    """A tensor's extents.

    Raises:
        ValueError: its shape depends on the data.
    """
    shape = getattr(tensor.ty, "shape", None)
    extents = [] if shape is None else [getattr(e, "value", None) for e in shape.values]
    known_extents = tuple(extent for extent in extents if isinstance(extent, int))
    if shape is None or len(known_extents) < len(extents):
        raise ValueError("a tensor's shape depends on the data, which Latloop cannot import")
    return known_extents


def dtype_of(tensor: Any) -> str:
    """A tensor's element type by numpy's name."""
    return str(tensor.ty.dtype)


def known(tensor: Any) -> NDArray[Any] | None:
    """What a constant holds; None where it is computed, or not there."""
    if isinstance(tensor, tvm.ir.GenericConst):
        return np.asarray(tensor.value.numpy())
    return None


def known_or_refuse(tensor: Any, what: str) -> NDArray[Any]:
    """What a constant holds.

    Raises:
        ValueError: it is computed while the model runs.
    """
    array = known(tensor)
    if array is None:
        raise ValueError(f"{what} depends on the model's inputs, which Latloop cannot import")
    return array


def const(array: Any, dtype: str) -> Any:
    """A constant expression."""
    return relax.const(np.asarray(array, dtype), dtype)


def text(attr: Any, name: str, default: str) -> str:
    """An attribute that is a text."""
    value = attr.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)
