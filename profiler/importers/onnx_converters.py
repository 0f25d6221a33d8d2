"""ONNX operators whose conversion in TVM is missing or takes a detour, in Relax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from profiler.importers.onnx_einsum import Einsum
from profiler.importers.onnx_index import (
    CumSum,
    Gather,
    OneHot,
    ReverseSequence,
    Slice,
    Tile,
    TopK,
    axis_extent,
    coordinate_extents,
)
from profiler.importers.onnx_norm import (
    LRN,
    BatchNormalization,
    LayerNormalization,
    LpNormalization,
    RMSNormalization,
)
from profiler.importers.onnx_recurrent import GRU, LSTM, RNN
from profiler.importers.onnx_resize import Resize, Upsample
from profiler.importers.onnx_tensors import Converter, const, dtype_of, known, shape_of, text
from profiler.importers.onnx_window import AveragePool, Conv, ConvTranspose, MaxPool, Pad


class Clip(Converter):
    """Known bounds in one operation, in place of loops that the importer cannot read."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x = inputs[0]
        low = _bound(inputs[1], attr.get("min"), -np.inf)
        high = _bound(inputs[2], attr.get("max"), np.inf)
        if low is not None and high is not None and dtype_of(x).startswith("float"):
            return relax.op.clip(x, low, high)
        for bound, attribute, op in (
            (inputs[1], "min", relax.op.maximum), (inputs[2], "max", relax.op.minimum)
        ):  # fmt: skip
            if attribute in attr:
                bound = const(attr[attribute], dtype_of(x))  # noqa: PLW2901
            if bound is not None:
                x = bb.normalize(op(x, bound))
        return x


def _bound(given: Any, attribute: Any, default: float) -> float | None:
    """A bound's value; None where it is computed."""
    if given is None:
        return float(default if attribute is None else attribute)
    array = known(given)
    if array is None:
        return None
    value = float(array.reshape(()))
    return default if np.isnan(value) else value


class _InTurn(Converter):
    """One operation after the other, which fuse, in place of stacking all inputs."""

    relax_op: Callable[[Any, Any], Any]

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, _attr: Any, _params: Any) -> Any:
        total = inputs[0]
        for term in inputs[1:]:
            total = bb.normalize(cls.relax_op(total, term))
        return total


class Sum(_InTurn):
    """Sum of any number of tensors."""

    relax_op = relax.op.add


class Max(_InTurn):
    """Largest of any number of tensors."""

    relax_op = relax.op.maximum


class Min(_InTurn):
    """Smallest of any number of tensors."""

    relax_op = relax.op.minimum


class Mean(Converter):
    """Mean of any number of tensors."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        total = Sum._impl_v1(bb, inputs, attr, params)
        return relax.op.multiply(total, const(1 / len(inputs), dtype_of(inputs[0])))


class Cast(Converter):
    """One cast, as runtimes do it; what the model may make of infinities is left to the machine."""

    @classmethod
    def _impl_v6(cls, _bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        dtype = onnx_frontend.get_type(attr["to"])
        return inputs[0] if dtype_of(inputs[0]) == dtype else relax.op.astype(inputs[0], dtype)


class Pow(Converter):
    """Powers of floats, by exponents of any type; whole numbers through float64."""

    @classmethod
    def _impl_v7(cls, bb: Any, inputs: Any, _attr: Any, _params: Any) -> Any:
        base, exponent = inputs[0], inputs[1]
        dtype = dtype_of(base)
        kind = dtype if dtype.startswith("float") else "float64"
        base, exponent = (_as_type(bb, tensor, kind) for tensor in (base, exponent))
        power = bb.normalize(relax.op.power(base, exponent))
        if kind == dtype:
            return power
        return relax.op.astype(bb.normalize(relax.op.round(power)), dtype)


def _as_type(bb: Any, tensor: Any, dtype: str) -> Any:
    if dtype_of(tensor) == dtype:
        return tensor
    array = known(tensor)
    if array is not None:
        return const(array, dtype)
    return bb.normalize(relax.op.astype(tensor, dtype))


class IsInf(Converter):
    """Comparisons with one infinity or both."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x = inputs[0]
        if not attr.get("detect_negative", 1):
            return relax.op.equal(x, const(np.inf, dtype_of(x)))
        if not attr.get("detect_positive", 1):
            return relax.op.equal(x, const(-np.inf, dtype_of(x)))
        return relax.op.equal(bb.normalize(relax.op.abs(x)), const(np.inf, dtype_of(x)))


class SpaceToDepth(Converter):
    """Blocks of pixels as channels, in either order."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        n, c, h, w = shape_of(inputs[0])
        size = attr["blocksize"]
        cut = relax.op.reshape(inputs[0], [n, c, h // size, size, w // size, size])
        is_channel_first = text(attr, "mode", "DCR") == "CRD"
        axes = [0, 1, 3, 5, 2, 4] if is_channel_first else [0, 3, 5, 1, 2, 4]
        moved = bb.normalize(relax.op.permute_dims(bb.normalize(cut), axes))
        return relax.op.reshape(moved, [n, c * size * size, h // size, w // size])


class RoiAlign(Converter):
    """Means of regions; TVM takes other maxima than ONNX means."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        cls._refuse_maxima(attr)
        return onnx_frontend.RoiAlign._impl_v10(bb, inputs, attr, params)

    @classmethod
    def _impl_v16(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        cls._refuse_maxima(attr)
        return onnx_frontend.RoiAlign._impl_v16(bb, inputs, attr, params)

    @classmethod
    def _refuse_maxima(cls, attr: Any) -> None:
        if text(attr, "mode", "avg") != "avg":
            raise ValueError("maxima of regions cannot be imported")


class Dropout(Converter):
    """Nothing: models are run, not trained."""

    @classmethod
    def _impl_v1(cls, _bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        if attr["tvm_custom"]["num_outputs"] == 1:
            return inputs[0]
        return relax.Tuple([inputs[0], const(np.ones(shape_of(inputs[0])), "bool")])


class Softmax(Converter):
    """Along one axis; before opset 13 along all axes from one on."""

    relax_op: Callable[..., Any] = relax.op.nn.softmax

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x, shape = inputs[0], shape_of(inputs[0])
        axis = attr.get("axis", 1) % len(shape)
        large = [each for each in range(axis, len(shape)) if shape[each] > 1]
        if len(large) < 2:
            return cls.relax_op(x, large[0] if large else axis)
        flat = bb.normalize(relax.op.reshape(x, [*shape[:axis], -1]))
        return relax.op.reshape(bb.normalize(cls.relax_op(flat, axis)), shape)

    @classmethod
    def _impl_v13(cls, _bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        return cls.relax_op(inputs[0], attr.get("axis", -1))


class LogSoftmax(Softmax):
    """Its logarithm, likewise."""

    relax_op = relax.op.nn.log_softmax


#: Conversions of our own, by ONNX's names; they go before TVM's.
CONVERTERS: Final[dict[str, type[Converter]]] = {
    each.__name__: each
    for each in (
        AveragePool, BatchNormalization, Cast, Clip, Conv, ConvTranspose, CumSum, Dropout, Einsum,
        GRU, Gather, IsInf, LRN, LSTM, LayerNormalization, LogSoftmax, LpNormalization, Max,
        MaxPool, Mean, Min, OneHot, Pad, Pow, RMSNormalization, RNN, Resize, ReverseSequence,
        RoiAlign, Slice, Softmax, SpaceToDepth, Sum, Tile, TopK, Upsample,
    )
}  # fmt: skip

_IS_FLOW: Final = "is control flow that depends on the data"
_HAS_NO_SHAPE: Final = "makes a shape that depends on the data"
_IS_NO_TENSOR: Final = "makes something that is no tensor"
#: Operators that are refused although TVM has conversions of that name, and why.
REFUSED: Final = {
    **dict.fromkeys(("If", "Loop", "Scan"), _IS_FLOW),
    **dict.fromkeys(
        ("AllClassNMS", "Compress", "NonMaxSuppression", "NonZero", "Unique"), _HAS_NO_SHAPE
    ),
    **dict.fromkeys(
        ("ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement",
         "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
         "SequenceLength", "SplitToSequence"), _IS_NO_TENSOR,
    ),
    "Attention": "comes in a form that cannot be imported",
}  # fmt: skip


def convertible() -> frozenset[str]:
    """Names of the ONNX operators that have a conversion, ours or TVM's."""
    return frozenset({*onnx_frontend._get_convert_map(), *CONVERTERS, "Constant"}) - REFUSED.keys()


@contextmanager
def converters() -> Iterator[None]:
    """TVM's front end with the conversions of this module."""
    names = ("_get_convert_map", "_axis_extent", "_coord_axis_extents")
    original = {name: getattr(onnx_frontend, name) for name in names}
    # The front end asks for its table at every node.
    table = {**onnx_frontend._get_convert_map(), **CONVERTERS}
    onnx_frontend._get_convert_map = lambda: table
    onnx_frontend._axis_extent = axis_extent
    onnx_frontend._coord_axis_extents = coordinate_extents
    try:
        yield
    finally:
        for name, function in original.items():
            setattr(onnx_frontend, name, function)
