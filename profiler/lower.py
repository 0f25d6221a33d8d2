"""From an operator to TIR: what is computed, in NHWC, before any schedule.

Every function has a block `out` that writes the result; reductions have a block `acc` that it
reads, and windows over a padded input a block `pad`.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import te, tirx

from profiler.fast_math import error_function, sigmoid
from profiler.layout import argument_shapes, is_pointwise
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule

Tensor = Any
Expression = Any


def lower(operator: Operator, schedule: Schedule) -> tvm.tirx.PrimFunc:
    """Write an operator as a TIR function whose arguments are `argument_shapes`.

    The schedule decides how weights are packed, nothing else here.
    """
    shapes = argument_shapes(operator, schedule)[:-1]
    names = _argument_names(operator)
    tensors = {
        name: te.placeholder(shape, "float32", name=name)
        for name, shape in zip(names, shapes, strict=True)
    }
    output = _compute(operator, schedule, tensors)
    return te.create_prim_func([*tensors.values(), output])


def _argument_names(operator: Operator) -> tuple[str, ...]:
    second = {"add": ("y",), "scale": ("factor",)}.get(operator.kind, ())
    residual = ("residual",) if "add" in operator.epilogue else ()
    weights = ("weight", "bias")[: len(operator.weight_shapes)]
    if operator.weight_shapes and operator.kind not in {"conv2d", "depthwise_conv2d", "dense"}:
        raise ValueError(f"{operator.kind} takes no weights")
    return ("x", *second, *residual, *weights)


def _compute(operator: Operator, schedule: Schedule, tensors: dict[str, Tensor]) -> Tensor:
    if is_pointwise(operator):
        accumulated = _matrix_product(tensors, schedule["channels"])
    elif operator.kind == "conv2d":
        accumulated = _convolution(operator, tensors, schedule["channels"])
    elif operator.kind == "depthwise_conv2d":
        accumulated = _depthwise(operator, tensors)
    elif operator.kind in {"avg_pool2d", "max_pool2d"}:
        accumulated = _window_pool(operator, tensors["x"])
    elif operator.kind == "global_avg_pool2d":
        accumulated = _global_sum(tensors["x"])
    else:
        accumulated = None
    return _finish(operator, accumulated, tensors)


def _matrix_product(tensors: dict[str, Tensor], channels: int) -> Tensor:
    x, weight = tensors["x"], tensors["weight"]
    k = te.reduce_axis((0, x.shape[1]), name="k")
    return te.compute(
        (x.shape[0], weight.shape[0] * channels),
        lambda i, j: te.sum(x[i, k] * weight[j // channels, k, j % channels], axis=k),
        name="acc",
    )


def _padded(operator: Operator, x: Tensor, value: float) -> Tensor:
    top, left, bottom, right = operator.padding
    if not any(operator.padding):
        return x
    n, h, w, c = operator.input_shape
    return te.compute(
        (n, h + top + bottom, w + left + right, c),
        lambda b, i, j, k: tirx.if_then_else(
            tirx.all(i >= top, i < h + top, j >= left, j < w + left),
            x[b, i - top, j - left, k],
            tirx.const(value, "float32"),
        ),
        name="pad",
    )


def _window(operator: Operator) -> tuple[Any, Any]:
    return (
        te.reduce_axis((0, operator.kernel[0]), name="ky"),
        te.reduce_axis((0, operator.kernel[1]), name="kx"),
    )


def _convolution(operator: Operator, tensors: dict[str, Tensor], channels: int) -> Tensor:
    x, weight = _padded(operator, tensors["x"], 0.0), tensors["weight"]
    (sy, sx), (dy, dx) = operator.stride, operator.dilation
    ky, kx = _window(operator)
    depth = operator.input_shape[3] // operator.groups
    panels = operator.out_channels // operator.groups // channels
    k = te.reduce_axis((0, depth), name="k")

    def first(o: Expression) -> Expression:
        # By its panel, which no tile leaves: TVM must see that all lanes read one number.
        return o // channels // panels * depth if operator.groups > 1 else 0

    return te.compute(
        operator.output_shape,
        lambda b, i, j, o: te.sum(
            x[b, i * sy + ky * dy, j * sx + kx * dx, first(o) + k]
            * weight[o // channels, ky, kx, k, o % channels],
            axis=[ky, kx, k],
        ),
        name="acc",
    )


def _depthwise(operator: Operator, tensors: dict[str, Tensor]) -> Tensor:
    x, weight = _padded(operator, tensors["x"], 0.0), tensors["weight"]
    (sy, sx), (dy, dx) = operator.stride, operator.dilation
    ky, kx = _window(operator)
    return te.compute(
        operator.output_shape,
        lambda b, i, j, c: te.sum(
            x[b, i * sy + ky * dy, j * sx + kx * dx, c] * weight[ky, kx, c], axis=[ky, kx]
        ),
        name="acc",
    )


def _window_pool(operator: Operator, x: Tensor) -> Tensor:
    is_max = operator.kind == "max_pool2d"
    x = _padded(operator, x, float(tirx.min_value("float32").value) if is_max else 0.0)
    (sy, sx), (dy, dx) = operator.stride, operator.dilation
    ky, kx = _window(operator)
    reduce = te.max if is_max else te.sum
    return te.compute(
        operator.output_shape,
        lambda b, i, j, c: reduce(x[b, i * sy + ky * dy, j * sx + kx * dx, c], axis=[ky, kx]),
        name="acc",
    )


def _global_sum(x: Tensor) -> Tensor:
    n, h, w, c = x.shape
    ky, kx = te.reduce_axis((0, h), name="ky"), te.reduce_axis((0, w), name="kx")
    return te.compute(
        (n, 1, 1, c), lambda b, i, j, k: te.sum(x[b, i + ky, j + kx, k], axis=[ky, kx]), name="acc"
    )


def _finish(operator: Operator, accumulated: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """The block `out`: what the kind does after its reduction, then the epilogue."""
    shape = tensors["x"].shape if accumulated is None else accumulated.shape

    def element(*index: Expression) -> Expression:
        if operator.kind == "add":
            value = tensors["x"][index] + tensors["y"][index]
        elif operator.kind == "scale":
            value = tensors["x"][index] * tensors["factor"][index[0], 0, 0, index[3]]
        else:
            value = accumulated[index]
        if operator.kind == "avg_pool2d":
            value = value * tirx.const(1 / (operator.kernel[0] * operator.kernel[1]), "float32")
        if operator.kind == "global_avg_pool2d":
            n_pixels = operator.input_shape[1] * operator.input_shape[2]
            value = value * tirx.const(1 / n_pixels, "float32")
        for step in operator.epilogue:
            value = _apply(step, value, index, tensors)
        return value

    return te.compute(shape, element, name="out")


def _apply(
    step: str, value: Expression, index: tuple[Expression, ...], tensors: dict[str, Tensor]
) -> Expression:
    if step == "bias":
        return value + tensors["bias"][index[-1]]
    if step == "add":
        return value + tensors["residual"][index]
    return activate(step, value)


def _number(value: float) -> Expression:
    return tirx.const(value, "float32")


def activate(name: str, x: Expression) -> Expression:
    """An activation as a float32 expression.

    hard_sigmoid is relu6(x + 3) / 6 and hard_swish x times that (Howard et al. 2019, Searching
    for MobileNetV3).
    """
    if name == "relu":
        return tirx.max(x, _number(0))
    if name == "relu6":
        return _clip(x, 0, 6)
    if name == "hard_sigmoid":
        return _clip(x + _number(3), 0, 6) * _number(1 / 6)
    if name == "hard_swish":
        return x * _clip(x + _number(3), 0, 6) * _number(1 / 6)
    if name == "gelu":  # Hendrycks and Gimpel 2016
        return _number(0.5) * x * (_number(1) + error_function(x * _number(0.5**0.5)))
    return x * sigmoid(x) if name == "swish" else sigmoid(x)


def _clip(x: Expression, low: float, high: float) -> Expression:
    return tirx.min(tirx.max(x, _number(low)), _number(high))
