"""ONNX's Resize and Upsample in Relax.

Along each axis an output is a weighted sum of a few inputs, at places that are known now: ONNX's
many modes differ in these tables alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from profiler.importers.onnx_tensors import (
    Converter,
    const,
    dtype_of,
    known_or_refuse,
    shape_of,
    text,
)

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ResizeRule:
    """How outputs are taken from inputs.

    Attributes:
        mode: `nearest`, `linear` or `cubic`.
        coordinates: ONNX's `coordinate_transformation_mode`.
        rounding: ONNX's `nearest_mode`; `simple` is that of the operators before opset 11.
        cubic_a: ONNX's `cubic_coeff_a`.
        excludes_outside: Whether weights beyond the border count as zero.
    """

    mode: str
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    cubic_a: float = -0.75
    excludes_outside: bool = False


def resize_tables(rule: ResizeRule, size: int, wanted: int, scale: float) -> tuple[Places, Floats]:
    """Places and weights of the inputs of each output along one axis, shape (n_taps, wanted).

    https://onnx.ai/onnx/operators/onnx__Resize.html

    Args:
        rule: How.
        size: Extent of the input.
        wanted: Extent of the output.
        scale: The factor that the model states; not always `wanted / size`.
    """
    x = _coordinates(rule, size, wanted, scale)
    if rule.mode == "nearest":
        places = _rounded(rule.rounding, x, scale)
        return np.clip(places, 0, size - 1)[None], np.ones((1, wanted), np.float32)
    first = np.floor(x).astype(np.int64)
    part = x - first
    if rule.mode == "linear":
        offsets, weights = (0, 1), np.stack([1 - part, part])
    else:
        offsets, weights = (-1, 0, 1, 2), _cubic(part, rule.cubic_a)
    places = np.stack([first + offset for offset in offsets])
    if rule.excludes_outside:
        weights = np.where((places >= 0) & (places < size), weights, 0)
        weights /= weights.sum(0)
    return np.clip(places, 0, size - 1), weights.astype(np.float32)


def _coordinates(rule: ResizeRule, size: int, wanted: int, scale: float) -> Floats:
    """Where each output lies among the inputs, in float32 as runtimes compute it."""
    i, s = np.arange(wanted, dtype=np.float32), np.float32(scale)
    half = np.float32(0.5)
    if rule.coordinates == "asymmetric":
        return i / s
    if rule.coordinates == "align_corners":
        return i * np.float32((size - 1) / (wanted - 1)) if wanted > 1 else 0 * i
    if rule.coordinates == "pytorch_half_pixel" and wanted == 1:
        return 0 * i
    x = (i + half) / s - half
    if rule.coordinates == "half_pixel_symmetric":
        return np.asarray(x + np.float32(size / 2 * (1 - wanted / (scale * size))), np.float32)
    if rule.coordinates in {"half_pixel", "pytorch_half_pixel"}:
        return x
    raise ValueError(f"Resize with coordinates {rule.coordinates} cannot be imported")


def _rounded(rounding: str, x: Floats, scale: float) -> Places:
    if rounding == "simple":
        rounding = "ceil" if scale < 1 else "floor"
    half = np.float32(0.5)
    rounded = {
        "floor": np.floor(x),
        "ceil": np.ceil(x),
        "round_prefer_floor": np.ceil(x - half),
        "round_prefer_ceil": np.floor(x + half),
    }[rounding]
    return rounded.astype(np.int64)


def _cubic(part: Floats, a: float) -> Floats:
    """Weights of the four neighbours of each place (Keys 1981)."""
    weights = []
    for distance in (part + 1, part, 1 - part, 2 - part):
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights.append(np.where(distance <= 1, near, far))
    return np.stack(weights)


class Resize(Converter):
    """Any rank, any mode but antialiasing and crops."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        rule = ResizeRule(_mode(attr), "asymmetric", "simple")
        scales = known_or_refuse(inputs[1], "Resize's scales")
        return resize(bb, inputs[0], rule, dict(enumerate(map(float, scales))), {})

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        policy = text(attr, "keep_aspect_ratio_policy", "stretch")
        if attr.get("antialias", 0) or policy != "stretch":
            raise ValueError("Resize with antialias or keep_aspect_ratio_policy cannot be imported")
        rule = ResizeRule(
            _mode(attr),
            text(attr, "coordinate_transformation_mode", "half_pixel"),
            text(attr, "nearest_mode", "round_prefer_floor"),
            float(attr.get("cubic_coeff_a", -0.75)),
            bool(attr.get("exclude_outside", 0)),
        )
        shape = shape_of(inputs[0])
        axes = [axis % len(shape) for axis in attr.get("axes", range(len(shape)))]
        if inputs[3] is not None and shape_of(inputs[3]) != (0,):
            wanted = [int(n) for n in known_or_refuse(inputs[3], "Resize's sizes")]
            sizes = dict(zip(axes, wanted, strict=True))
            scales = {axis: size / shape[axis] for axis, size in sizes.items()}
            return resize(bb, inputs[0], rule, scales, sizes)
        factors = [float(n) for n in known_or_refuse(inputs[2], "Resize's scales")]
        return resize(bb, inputs[0], rule, dict(zip(axes, factors, strict=True)), {})


class Upsample(Converter):
    """What Resize was called before."""

    @classmethod
    def _impl_v7(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        rule = ResizeRule(_mode(attr), "asymmetric", "simple")
        return resize(bb, inputs[0], rule, dict(enumerate(attr["scales"])), {})

    @classmethod
    def _impl_v9(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        return Resize._impl_v10(bb, inputs, attr, params)


def _mode(attr: Any) -> str:
    mode = text(attr, "mode", "nearest")
    return {"bilinear": "linear"}.get(mode, mode)


def resize(
    bb: Any, x: Any, rule: ResizeRule, scales: dict[int, float], sizes: dict[int, int]
) -> Any:
    """Resize some axes, each by its factor, to stated sizes where there are any.

    Args:
        bb: Where the operations are written.
        x: A tensor.
        rule: How outputs are taken from inputs.
        scales, sizes: Factor of each axis, and its new extent, by axis.
    """
    shape = shape_of(x)
    for axis, scale in scales.items():
        # In float32: 0.6 in the file is a little more than 0.6.
        wanted = sizes.get(axis, int(np.floor(np.float32(scale) * np.float32(shape[axis]))))
        if wanted == shape[axis] and scale == 1:
            continue
        places, weights = resize_tables(rule, shape[axis], wanted, scale)
        column = [wanted if each == axis else 1 for each in range(len(shape))]
        total = None
        for place, weight in zip(places, weights, strict=True):
            part = bb.normalize(relax.op.take(x, const(place, "int64"), axis, "clip"))
            if len(places) > 1:
                factor = const(weight.reshape(column), dtype_of(x))
                part = bb.normalize(relax.op.multiply(part, factor))
            total = part if total is None else bb.normalize(relax.op.add(total, part))
        x = total
    return x
