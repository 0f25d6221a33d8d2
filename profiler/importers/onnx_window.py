"""ONNX's convolutions, pools, pads and resizes in Relax, every number of padding worked out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from tvm import relax

from profiler.importers.onnx_tensors import (
    Converter,
    const,
    dtype_of,
    known,
    known_or_refuse,
    shape_of,
    text,
)

_PAD_MODES: Final = {
    "constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Window:
    """How a window goes over an image; lists have a number for each spatial axis.

    Attributes:
        kernel, strides, dilations: In pixels.
        before, after: Padding at both ends of each axis.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]

    @property
    def padding(self) -> list[int]:
        """Begins of all axes, then their ends, as Relax wants it."""
        return self.before + self.after

    def reach(self, axis: int) -> int:
        """Pixels that a window spans."""
        return self.dilations[axis] * (self.kernel[axis] - 1) + 1


def _window(attr: Any, image: tuple[int, ...], kernel: list[int]) -> _Window:
    """The window of a node's attributes, `auto_pad` turned into numbers."""
    rank = len(kernel)
    strides = list(attr.get("strides", [1] * rank))
    dilations = list(attr.get("dilations", [1] * rank))
    pads = list(attr.get("pads", [0] * 2 * rank))
    mode = text(attr, "auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * 2 * rank
    if not mode.startswith("SAME"):
        return _Window(kernel, strides, dilations, pads[:rank], pads[rank:])
    before, after = [], []
    for size, k, stride, dilation in zip(image, kernel, strides, dilations, strict=True):
        # https://onnx.ai/onnx/operators/onnx__Conv.html: size / stride windows, rounded up
        total = max((-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(large if mode == "SAME_LOWER" else small)
        after.append(small if mode == "SAME_LOWER" else large)
    return _Window(kernel, strides, dilations, before, after)


def _widened(numbers: list[int]) -> list[int]:
    """Numbers of a signal's one axis (begin, end, if there are two) as those of an image."""
    return [0, numbers[0], 0, numbers[1]] if len(numbers) == 2 else [1, *numbers]


class Conv(Converter):
    """Convolutions of signals, images and volumes, in groups or not."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x, weight, bias = inputs[0], inputs[1], inputs[2]
        kernel = list(shape_of(weight)[2:])
        window = _window(attr, shape_of(x)[2:], kernel)
        axes = ("W", "HW", "DHW")[len(kernel) - 1]
        op = (relax.op.nn.conv1d, relax.op.nn.conv2d, relax.op.nn.conv3d)[len(kernel) - 1]
        out = op(
            x, weight, window.strides, window.padding, window.dilations, attr.get("group", 1),
            f"NC{axes}", f"OI{axes}",
        )  # fmt: skip
        return _with_bias(bb, out, bias, len(kernel))


class ConvTranspose(Converter):
    """Transposed convolutions; those of signals as images of height 1."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x, weight, bias = inputs[0], inputs[1], inputs[2]
        shape = shape_of(x)
        rank = len(shape) - 2
        if rank > 2:
            raise ValueError("ConvTranspose of volumes cannot be imported")
        kernel = list(shape_of(weight)[2:])
        extra = list(attr.get("output_padding", [0] * rank))
        window = _transposed_window(attr, shape[2:], kernel, extra)
        if any(d > 1 for d in window.dilations):
            weight = _dilated(known_or_refuse(weight, "a dilated ConvTranspose's weight"), window)
        strides, padding = window.strides, window.padding
        if rank == 1:
            x = bb.normalize(relax.op.expand_dims(x, 2))
            weight = bb.normalize(relax.op.expand_dims(weight, 2))
            strides, padding, extra = [1, *strides], _widened(padding), [0, *extra]
        out = bb.normalize(
            relax.op.nn.conv2d_transpose(
                x, weight, strides, padding, extra, 1, attr.get("group", 1), "NCHW", "IOHW"
            )
        )
        if rank == 1:
            out = bb.normalize(relax.op.squeeze(out, 2))
        return _with_bias(bb, out, bias, rank)


def _transposed_window(
    attr: Any, image: tuple[int, ...], kernel: list[int], extra: list[int]
) -> _Window:
    """The window of a transposed convolution; `output_shape` and `auto_pad` decide its padding."""
    rank = len(kernel)
    plain = _window({**attr, "auto_pad": "NOTSET"}, image, kernel)
    mode = text(attr, "auto_pad", "NOTSET")
    wanted = list(attr.get("output_shape", []))[-rank:]
    if not wanted and mode.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(image, plain.strides, strict=True)]
    if not wanted:
        return plain
    # https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
    before, after = [], []
    for axis, size in enumerate(wanted):
        full = plain.strides[axis] * (image[axis] - 1) + extra[axis] + plain.reach(axis)
        total = full - size
        first = total // 2 if mode == "SAME_UPPER" else total - total // 2
        before.append(first)
        after.append(total - first)
    return _Window(kernel, plain.strides, plain.dilations, before, after)


def _dilated(weight: Any, window: _Window) -> Any:
    """A kernel with the zeros between its taps written out."""
    spread = np.zeros((*weight.shape[:2], *map(window.reach, range(len(window.kernel)))), "float32")
    taps: Any = (..., *(slice(None, None, d) for d in window.dilations))
    spread[taps] = weight
    return const(spread, "float32")


def _with_bias(bb: Any, out: Any, bias: Any, rank: int) -> Any:
    out = bb.normalize(out)
    if bias is None:
        return out
    return relax.op.add(out, bb.normalize(relax.op.reshape(bias, [1, -1] + [1] * rank)))


class MaxPool(Converter):
    """Maxima of windows; those of signals as images of height 1."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        if attr["tvm_custom"]["num_outputs"] > 1:
            raise ValueError("the places of its maxima cannot be imported")
        return _pool(bb, inputs[0], attr, "max")


class AveragePool(Converter):
    """Means of windows; those of signals as images of height 1."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        return _pool(bb, inputs[0], attr, "avg")


def _pool(bb: Any, x: Any, attr: Any, kind: str) -> Any:
    image = shape_of(x)[2:]
    stated = _window(attr, image, list(attr["kernel_shape"]))
    window = _rounded_up(stated, image) if attr.get("ceil_mode", 0) else stated
    includes_pad = bool(attr.get("count_include_pad", 0))
    rank = len(image)
    strides, padding, kernel = window.strides, window.padding, window.kernel
    dilations = window.dilations
    if rank == 1:
        x = bb.normalize(relax.op.expand_dims(x, 2))
        strides, kernel, dilations = [1, *strides], [1, *kernel], [1, *dilations]
        padding = _widened(padding)
    op = getattr(relax.op.nn, f"{kind}_pool{max(rank, 2)}d")
    out = bb.normalize(op(x, kernel, strides, padding, dilations, False, includes_pad))
    if kind == "avg" and includes_pad and window != stated:
        factor = _counted(window, stated, image)
        out = bb.normalize(relax.op.multiply(out, const(factor, dtype_of(x))))
    return relax.op.squeeze(out, 2) if rank == 1 else out


def _rounded_up(window: _Window, image: tuple[int, ...]) -> _Window:
    """A window whose padding makes the number of outputs that `ceil_mode` asks for."""
    after = []
    for axis, size in enumerate(image):
        stride, begin = window.strides[axis], window.before[axis]
        room = size + begin + window.after[axis] - window.reach(axis)
        last = -(-room // stride) * stride
        if last >= size + begin:  # it would begin in the padding behind the image
            last -= stride
        after.append(max(last + window.reach(axis) - size - begin, 0))
    return _Window(window.kernel, window.strides, window.dilations, window.before, after)


def _counted(window: _Window, stated: _Window, image: tuple[int, ...]) -> Any:
    """Factors that leave out of means what `ceil_mode` added behind the stated padding."""
    factors = []
    for axis, size in enumerate(image):
        kernel, stride = window.kernel[axis], window.strides[axis]
        begin, end = stated.before[axis], size + stated.after[axis]
        n_out = (size + begin + window.after[axis] - window.reach(axis)) // stride + 1
        starts = np.arange(n_out) * stride - begin
        factors.append(kernel / (np.minimum(starts + kernel, end) - starts))
    if len(factors) == 1:
        factors.insert(0, np.ones(1))
    return np.multiply.reduce(np.broadcast_arrays(*np.ix_(*factors)))[None, None]


class Pad(Converter):
    """Padding of all modes as one operation; negative numbers cut off."""

    @classmethod
    def _impl_v2(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        pads = list(attr["pads"])
        return _pad(bb, inputs[0], pads, attr.get("value", 0.0), text(attr, "mode", "constant"))

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x = inputs[0]
        given = [int(n) for n in known_or_refuse(inputs[1], "Pad's pads")]
        value = 0.0 if inputs[2] is None else known_or_refuse(inputs[2], "Pad's value").item()
        rank = len(shape_of(x))
        axes = known(inputs[3])
        pads = [0] * 2 * rank
        for place, axis in enumerate(range(rank) if axes is None else axes):
            pads[axis % rank] = given[place]
            pads[rank + axis % rank] = given[len(given) // 2 + place]
        return _pad(bb, x, pads, value, text(attr, "mode", "constant"))


def _pad(bb: Any, x: Any, pads: list[int], value: float, mode: str) -> Any:
    shape = shape_of(x)
    rank = len(shape)
    cut = [(axis, max(-pads[axis], 0), shape[axis] - max(-pads[rank + axis], 0))
           for axis in range(rank) if pads[axis] < 0 or pads[rank + axis] < 0]  # fmt: skip
    if cut:
        axes, begins, ends = (list(numbers) for numbers in zip(*cut, strict=True))
        x = bb.normalize(relax.op.strided_slice(x, axes, begins, ends))
    widths = [max(pads[side * rank + axis], 0) for axis in range(rank) for side in (0, 1)]
    if not any(widths):
        return x
    return relax.op.nn.pad(x, widths, _PAD_MODES[mode], float(value))
