"""The operators that `operators.py` measures, and what each is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from profiler.operator import Operator

Judged = Literal["product", "vector", "not"]
#: Products below have too little work to be judged by the roofline.
LEAST_ROWS: Final = 16
LEAST_FLOPS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """An operator with what a person calls it."""

    name: str
    operator: Operator

    @property
    def judged(self) -> Judged:
        """By the roofline of products, by the bandwidth, or not at all."""
        return judged_by(self.operator)


def judged_by(operator: Operator) -> Judged:
    """What an operator is judged by.

    A convolution that mixes channels is a product of as many rows as it has output pixels.
    """
    if operator.kind not in {"conv2d", "dense"} or operator.groups > 1:
        return "not"
    rows = math.prod(operator.output_shape[:3])
    if rows == 1:
        return "vector"
    return "product" if rows >= LEAST_ROWS and operator.n_flops >= LEAST_FLOPS else "not"


def necessary_flops(operator: Operator) -> int:
    """Operations of a convolution or product, without those on its padding's zeros."""
    if operator.kind not in {"conv2d", "depthwise_conv2d"}:
        return operator.n_flops
    top, left, _, _ = operator.padding
    inside = _taps_inside(operator, 0, top) * _taps_inside(operator, 1, left)
    everywhere = math.prod(operator.output_shape[1:3]) * math.prod(operator.kernel)
    return operator.n_flops * inside // everywhere


def _taps_inside(operator: Operator, axis: int, before: int) -> int:
    """Taps on the image along one axis, summed over the windows."""
    size, stride = operator.input_shape[axis + 1], operator.stride[axis]
    return sum(
        0 <= place * stride - before + tap * operator.dilation[axis] < size
        for place in range(operator.output_shape[axis + 1])
        for tap in range(operator.kernel[axis])
    )


def _conv(
    size: int, n_in: int, n_out: int, kernel: int = 1, stride: int = 1, kind: str = "conv2d"
) -> Operator:
    """A square convolution with bias and rectifier that keeps the image, up to its stride."""
    pad = kernel // 2
    padding = (pad, pad, pad, pad)
    return Operator(
        kind, (1, size, size, n_in), n_out, (kernel, kernel), (stride, stride), padding,
        epilogue=("bias", "relu"),
    )  # fmt: skip


def _dense(rows: int, n_in: int, n_out: int) -> Operator:
    return Operator("dense", (rows, 1, 1, n_in), n_out, epilogue=("bias",))


#: Of every shape that mobile networks are made of one: an early, a middle and a late product, the
#: last with 49 rows; a full convolution, a stem of three channels, depthwise convolutions of 3x3
#: and 5x5, and a classifier, which lives from memory.
EIGHT: Final = (
    Case("pointwise 56x56 24 to 144", _conv(56, 24, 144)),
    Case("pointwise 14x14 96 to 576", _conv(14, 96, 576)),
    Case("pointwise 7x7 320 to 1280", _conv(7, 320, 1280)),
    Case("3x3 28x28 128 to 128", _conv(28, 128, 128, 3)),
    Case("stem 224x224 3 to 32", _conv(224, 3, 32, 3, 2)),
    Case("depthwise 3x3 14x14x384", _conv(14, 384, 384, 3, kind="depthwise_conv2d")),
    Case("depthwise 5x5 28x28x120", _conv(28, 120, 120, 5, kind="depthwise_conv2d")),
    Case("dense 1280 to 1000", _dense(1, 1280, 1000)),
)

_PATCHES = Operator("conv2d", (1, 224, 224, 3), 192, (16, 16), (16, 16), epilogue=("bias",))

#: Products of other networks, ragged ones among them, and more vectors.
MORE: Final = (
    Case("MobileNetV2 112x112 32 to 16", _conv(112, 32, 16)),
    Case("MobileNetV2 112x112 16 to 96", _conv(112, 16, 96)),
    Case("MobileNetV2 56x56 96 to 24", _conv(56, 96, 24)),
    Case("MobileNetV2 14x14 384 to 96", _conv(14, 384, 96)),
    Case("MobileNetV2 7x7 160 to 960", _conv(7, 160, 960)),
    Case("ofa 28x28 40 to 240", _conv(28, 40, 240)),
    Case("ofa 14x14 672 to 112", _conv(14, 672, 112)),
    Case("ofa 7x7 960 to 160", _conv(7, 960, 160)),
    Case("ResNet-50 7x7 stem 3 to 64", _conv(224, 3, 64, 7, 2)),
    Case("ResNet-50 3x3 56x56 64 to 64", _conv(56, 64, 64, 3)),
    Case("ResNet-50 56x56 64 to 256", _conv(56, 64, 256)),
    Case("ResNet-50 28x28 512 to 128", _conv(28, 512, 128)),
    Case("ResNet-50 56x56 256 to 512 by 2", _conv(56, 256, 512, 1, 2)),
    Case("ResNet-50 3x3 14x14 256 to 256", _conv(14, 256, 256, 3)),
    Case("ResNet-50 14x14 256 to 1024", _conv(14, 256, 1024)),
    Case("ResNet-50 3x3 7x7 512 to 512", _conv(7, 512, 512, 3)),
    Case("ResNet-50 7x7 2048 to 512", _conv(7, 2048, 512)),
    Case("SqueezeNet 13x13 512 to 1000", _conv(13, 512, 1000)),
    Case("Inception 17x17 768 to 192", _conv(17, 768, 192)),
    Case("ViT-Tiny patches 16x16 3 to 192", _PATCHES),
    Case("ViT-Tiny 197 rows 192 to 576", _dense(197, 192, 576)),
    Case("ViT-Tiny 197 rows 192 to 768", _dense(197, 192, 768)),
    Case("ViT-Tiny 197 rows 768 to 192", _dense(197, 768, 192)),
    Case("dense 512 to 1000", _dense(1, 512, 1000)),
    Case("dense 960 to 1280", _dense(1, 960, 1280)),
    Case("dense 2048 to 1000", _dense(1, 2048, 1000)),
    Case("dense 4096 to 4096", _dense(1, 4096, 4096)),
)
