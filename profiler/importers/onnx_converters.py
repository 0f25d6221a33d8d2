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
    def _impl_v1(cls, bb: Any, inputs: Any, _attr: Any, _params: Any) -> Any:
        total = inputs[0]
        for term in inputs[1:]:
            total = bb.normalize(relax.op.add(total, term))
        return total


class LRN(_Converter):
    """A window over channels as a sum of shifted tensors, which fuse, and roots for powers."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x = inputs[0]
        size = int(attr["size"])
        alpha, beta = float(attr.get("alpha", 1e-4)), float(attr.get("beta", 0.75))
        n_channels = int(x.ty.shape.values[1])
        before = (size - 1) // 2
        widths = [0, 0, before, size - 1 - before] + [0, 0] * (len(x.ty.shape.values) - 2)
        squares = bb.normalize(relax.op.nn.pad(relax.op.multiply(x, x), widths))
        # https://onnx.ai/onnx/operators/onnx__LRN.html
        total = None
        for shift in range(size):
            part = relax.op.strided_slice(squares, [1], [shift], [shift + n_channels])
            total = part if total is None else relax.op.add(total, part)
            total = bb.normalize(total)
        scaled = relax.op.multiply(total, relax.const(alpha / size, "float32"))
        base = bb.normalize(
            relax.op.add(relax.const(float(attr.get("bias", 1.0)), "float32"), scaled)
        )
        if beta == 0.75:
            root = bb.normalize(relax.op.sqrt(base))
            power = relax.op.multiply(root, relax.op.sqrt(root))
        else:
            power = relax.op.power(base, relax.const(beta, "float32"))
        return relax.op.divide(x, power)


CONVERTERS = {"Clip": Clip, "LRN": LRN, "Sum": Sum}


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
