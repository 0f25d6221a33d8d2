"""ONNX operators whose conversion in TVM is missing or takes a detour, in Relax."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend


class _Converter(onnx_frontend.OnnxOpConverter):  # type: ignore[misc]  # TVM has no types
    """All opsets alike."""


class Clip(_Converter):
    """Known bounds in one operation, in place of loops that the importer cannot read."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        low = _bound(inputs[1], attr.get("min"), -np.inf)
        high = _bound(inputs[2], attr.get("max"), np.inf)
        if low is None or high is None:
            return onnx_frontend.Clip._impl_v13(bb, inputs, attr, params)
        return relax.op.clip(inputs[0], low, high)


class Sum(_Converter):
    """One addition after the other, which fuse, in place of stacking all terms."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        total = inputs[0]
        for term in inputs[1:]:
            total = bb.normalize(relax.op.add(total, term))
        return total


CONVERTERS = {"Clip": Clip, "Sum": Sum}


@contextmanager
def converters() -> Iterator[None]:
    """TVM's front end with the conversions of this module."""
    original = onnx_frontend._get_convert_map
    onnx_frontend._get_convert_map = lambda: {**original(), **CONVERTERS}
    try:
        yield
    finally:
        onnx_frontend._get_convert_map = original


def _bound(given: Any, attribute: Any, default: float) -> float | None:
    """A bound's value; None where it is computed."""
    if given is None:
        return float(default if attribute is None else attribute)
    if not isinstance(given, tvm.ir.GenericConst):
        return None
    value = float(given.value.numpy().reshape(()))
    return default if np.isnan(value) else value
