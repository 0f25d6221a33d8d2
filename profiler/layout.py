"""How a kernel sees its tensors in memory: shapes of its arguments, and weights packed for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.operator import Operator, Shape
from profiler.schedules.schedule import Schedule


def is_pointwise(operator: Operator) -> bool:
    """Say whether the operator is one matrix product over all pixels of its input."""
    return operator.kind == "dense" or (
        operator.kind == "conv2d"
        and operator.kernel == (1, 1)
        and operator.stride == (1, 1)
        and operator.groups == 1
        and not any(operator.padding)
    )


def argument_shapes(operator: Operator, schedule: Schedule) -> tuple[Shape, ...]:
    """Shapes of a kernel's arguments: data inputs, weights, outputs.

    A matrix product sees (n_rows, n_channels); the kernel of a convolution is packed into panels
    of `schedule["channels"]` output channels.
    """
    if operator.body is not None:
        types = (*operator.body.inputs, *operator.body.constants, *operator.body.outputs)
        return tuple(t.shape for t in types)
    if is_pointwise(operator):
        rows = math.prod(operator.input_shape[:3])
        inputs: tuple[Shape, ...] = ((rows, operator.input_shape[3]),)
        output: Shape = (rows, operator.out_channels)
        if "add" in operator.epilogue:
            inputs += (output,)
    else:
        inputs, output = operator.input_shapes, operator.output_shape
    weights = operator.weight_shapes
    if operator.kind in {"conv2d", "dense"}:
        weights = (_panel_shape(operator, schedule["channels"]), *weights[1:])
    return (*inputs, *weights, output)


def _panel_shape(operator: Operator, channels: int) -> Shape:
    n_panels = operator.out_channels // channels
    depth = operator.input_shape[3] // operator.groups
    if is_pointwise(operator):
        return (n_panels, depth, channels)
    return (n_panels, *operator.kernel, depth, channels)


def pack_weights(
    operator: Operator, schedule: Schedule, weights: Sequence[NDArray[Any]]
) -> tuple[NDArray[Any], ...]:
    """Lay out logical weights (`Operator.weight_shapes`) as the kernel wants them.

    Raises:
        ValueError: a weight's shape is not the operator's.
    """
    for array, shape in zip(weights, operator.weight_shapes, strict=True):
        if array.shape != shape:
            raise ValueError(f"weight of {operator.key} must have shape {shape}, got {array.shape}")
    if operator.kind not in {"conv2d", "dense"}:
        return tuple(
            np.asarray(array, kind.dtype, order="C")
            for array, kind in zip(weights, operator.weight_types, strict=True)
        )
    channels = schedule["channels"]
    shape = _panel_shape(operator, channels)
    panels = weights[0].reshape(-1, shape[0], channels).transpose(1, 0, 2).reshape(shape)
    return tuple(np.ascontiguousarray(array, np.float32) for array in (panels, *weights[1:]))
