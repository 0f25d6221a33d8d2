"""How a kernel sees its tensors in memory: shapes of its arguments, and weights packed for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.minimal_filtering import FILTERINGS
from profiler.operator import Operator, Shape
from profiler.schedules import winograd
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs


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

    A matrix product sees (n_rows, n_channels). The weights of a convolution that mixes channels are
    packed, see `pack_weights`, and so is its bias.
    """
    if operator.body is not None:
        types = (*operator.body.inputs, *operator.body.constants, *operator.body.outputs)
        return tuple(t.shape for t in types)
    if operator.kind == "separable_conv2d":
        _, *others = argument_shapes(operator.pointwise, schedule)
        n_added = len(operator.input_shapes) - 1
        added, rest = others[:n_added], others[n_added:]
        return (operator.input_shape, *added, *operator.depthwise.weight_shapes, *rest)
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
        n_padded = operator.groups * _vectors(operator, schedule) * schedule["lanes"]
        weights = ((_depth(operator, schedule) * n_padded,), *[(n_padded,)] * (len(weights) - 1))
    return (*inputs, *weights, output)


def _vectors(operator: Operator, schedule: Schedule) -> int:
    """Vectors that hold the output channels of one group."""
    return -(-operator.out_channels // operator.groups // schedule["lanes"])


def _depth(operator: Operator, schedule: Schedule) -> int:
    """Weights of each output channel."""
    taps = math.prod(operator.kernel)
    if schedule.rule == winograd.RULE:
        taps = FILTERINGS[schedule["size"]].n_products
    return taps * operator.input_shape[3] // operator.groups


def pack_weights(
    operator: Operator, schedule: Schedule, weights: Sequence[NDArray[Any]]
) -> tuple[NDArray[Any], ...]:
    """Lay out logical weights (`Operator.weight_shapes`) as the kernel wants them.

    Output channels that are mixed from input channels are cut, group by group, into panels of
    `schedule["vectors"]` vectors or one less (`even_runs`); a panel holds its channels' weights
    term by term, in the order in which the kernel reads them. Zeros fill the last vector of a
    group. Those of minimal filtering are transformed first, in float64; the panel then holds one
    matrix after the other.

    Raises:
        ValueError: a weight's shape is not the operator's.
    """
    for array, shape in zip(weights, operator.weight_shapes, strict=True):
        if array.shape != shape:
            raise ValueError(f"weight of {operator.key} must have shape {shape}, got {array.shape}")
    if operator.kind == "separable_conv2d":
        n_first = len(operator.depthwise.weight_shapes)
        return (
            *pack_weights(operator.depthwise, schedule, weights[:n_first]),
            *pack_weights(operator.pointwise, schedule, weights[n_first:]),
        )
    if operator.kind not in {"conv2d", "dense"}:
        return tuple(
            np.asarray(array, kind.dtype, order="C")
            for array, kind in zip(weights, operator.weight_types, strict=True)
        )
    if schedule.rule == winograd.RULE:
        filtering = FILTERINGS[schedule["size"]]
        weights = (filtering.transform_kernels(weights[0]), *weights[1:])
    lanes, groups = schedule["lanes"], operator.groups
    n_vectors = _vectors(operator, schedule)
    width = operator.out_channels // groups
    padding = ((0, 0), (0, 0), (0, n_vectors * lanes - width))
    padded = [
        np.pad(np.asarray(array, np.float32).reshape(-1, groups, width), padding)
        for array in weights
    ]
    panels = [
        padded[0][:, group, start * lanes : (start + run.size) * lanes].ravel()
        for group in range(groups)
        for run in even_runs(n_vectors, schedule["vectors"])
        for start in range(run.start, run.end, run.size)
    ]
    return (np.concatenate(panels), *(bias.ravel() for bias in padded[1:]))
