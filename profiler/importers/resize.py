"""Resizes of tensors.

Along each axis an output is a weighted sum of a few inputs, at places that are known now: the many
modes of the front ends differ in these tables alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
#: Places and weights of the inputs of each output along one axis, shape (n_taps, wanted).
Table = tuple[Places, Floats]


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
        offsets, weights = [0, 1], np.stack([1 - part, part])
    else:
        offsets, weights = [-1, 0, 1, 2], _cubic(part, rule.cubic_a)
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
    rounded: Floats = {
        "floor": np.floor(x),
        "ceil": np.ceil(x),
        "round_prefer_floor": np.ceil(x - half),
        "round_prefer_ceil": np.floor(x + half),
    }[rounding]
    return np.asarray(rounded, np.int64)


def _cubic(part: Floats, a: float) -> Floats:
    """Weights of the four neighbours of each place (Keys 1981)."""
    weights = []
    for distance in (part + 1, part, 1 - part, 2 - part):
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights.append(np.where(distance <= 1, near, far))
    return np.stack(weights)


def resize(
    bb: Any, x: Any, rule: ResizeRule, scales: dict[int, float], sizes: dict[int, int]
) -> Any:
    """Resize some axes, each by its factor, to stated sizes where there are any.

    An image becomes one `image.resize2d`, whose attributes are the rule's in our words, which
    `resized` lowers; anything else sums of slices.

    Args:
        bb: Where the operations are written.
        x: A tensor.
        rule: How outputs are taken from inputs.
        scales: Factor of each axis that changes, by axis.
        sizes: New extents, by axis, where they are stated.
    """
    shape = tuple(int(extent) for extent in x.ty.shape.values)
    # In float32: 0.6 in the file is a little more than 0.6.
    wanted = {
        axis: sizes.get(axis, int(np.floor(np.float32(scale) * np.float32(shape[axis]))))
        for axis, scale in scales.items()
    }
    changed = {a: n for a, n in wanted.items() if n != shape[a] or scales[a] != 1}
    if len(shape) == 4 and changed and set(changed) <= {2, 3} and all(
        math.isclose(scales[a] * shape[a], n, rel_tol=1e-6) for a, n in changed.items()
    ):  # fmt: skip
        return bb.normalize(relax.op.image.resize2d(
            x, (changed.get(2, shape[2]), changed.get(3, shape[3])), layout="NCHW",
            method=rule.mode, coordinate_transformation_mode=rule.coordinates,
            rounding_method=rule.rounding, cubic_alpha=rule.cubic_a,
            cubic_exclude=int(rule.excludes_outside),
        ))  # fmt: skip
    for axis, extent in changed.items():
        table = resize_tables(rule, shape[axis], extent, scales[axis])
        x = _along(bb, x, axis, table)
    return x


def _along(bb: Any, x: Any, axis: int, table: Table) -> Any:
    """One axis resized, as a sum of slices."""
    places, weights = table
    column = [-1 if each == axis else 1 for each in range(len(x.ty.shape.values))]
    total = None
    for place, weight in zip(places, weights, strict=True):
        part = bb.normalize(relax.op.take(x, relax.const(place, "int64"), axis, "clip"))
        if len(places) > 1:
            factor = relax.const(weight.reshape(column), str(x.ty.dtype))
            part = bb.normalize(relax.op.multiply(part, factor))
        total = part if total is None else bb.normalize(relax.op.add(total, part))
    return total


def rule_of(attributes: Any) -> ResizeRule:
    """The rule that an `image.resize2d` of `resize` keeps in its attributes."""
    return ResizeRule(
        str(attributes.method),
        str(attributes.coordinate_transformation_mode),
        str(attributes.rounding_method),
        float(attributes.cubic_alpha),
        bool(attributes.cubic_exclude),
    )


def resized(x: Any, axes: tuple[int, int], places: tuple[Any, Any], weights: Any) -> Any:
    """Loops of a resize: every output is summed up at once.

    Args:
        x: The stored tensor.
        axes: Its axes that change.
        places: Tables of both axes as tensors, shape (n_taps, wanted).
        weights: The same, or nothing where each output is one input.
    """
    first, second = (int(axis) for axis in axes)
    shape = list(x.shape)
    shape[first], shape[second] = places[0].shape[1], places[1].shape[1]

    def element(*index: Any) -> Any:
        total = None
        for i in range(int(places[0].shape[0])):
            for j in range(int(places[1].shape[0])):
                at = list(index)
                at[first], at[second] = places[0][i, index[first]], places[1][j, index[second]]
                part = x(*at)
                if weights:
                    part = part * (weights[0][i, index[first]] * weights[1][j, index[second]])
                total = part if total is None else total + part
        return total

    return te.compute(shape, element, name="resize")
