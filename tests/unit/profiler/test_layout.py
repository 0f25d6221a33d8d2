"""Packed weights against the formula of each index, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from profiler.layout import argument_shapes, is_pointwise, pack_weights
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule

from .examples import weights_of

RNG = np.random.default_rng(3)
POINTWISE = Operator("conv2d", (2, 3, 5, 6), 12, epilogue=("bias", "add"))
DENSE = Operator("dense", (2, 1, 1, 6), 12, epilogue=("bias",))
CONV = Operator(
    "conv2d", (1, 8, 9, 6), 12, (3, 2), (2, 1), (1, 0, 1, 1), epilogue=("bias", "add", "relu")
)
DEPTHWISE = Operator("depthwise_conv2d", (1, 8, 9, 6), 6, (3, 2), epilogue=("bias",))
PANELS_OF_FOUR = Schedule("any", (("channels", 4),))


@pytest.mark.parametrize("operator", [POINTWISE, DENSE], ids=lambda operator: operator.kind)
@pytest.mark.parametrize("channels", [1, 3, 4, 12])
def test_a_matrix_is_packed_into_panels_of_output_channels(
    operator: Operator, channels: int
) -> None:
    matrix, bias = weights_of(operator, RNG)
    logical = matrix.reshape(6, 12)
    schedule = Schedule("any", (("channels", channels),))
    packed, same_bias = pack_weights(operator, schedule, [matrix, bias])
    assert packed.shape == (12 // channels, 6, channels)
    for panel, depth, lane in np.ndindex(packed.shape):
        assert packed[panel, depth, lane] == logical[depth, panel * channels + lane]
    np.testing.assert_array_equal(same_bias, bias)


def test_a_convolution_is_packed_into_panels_of_output_channels() -> None:
    weight, bias = weights_of(CONV, RNG)
    packed, same_bias = pack_weights(CONV, PANELS_OF_FOUR, [weight, bias])
    assert packed.shape == (3, 3, 2, 6, 4)
    for panel, y, x, depth, lane in np.ndindex(packed.shape):
        assert packed[panel, y, x, depth, lane] == weight[y, x, depth, panel * 4 + lane]
    np.testing.assert_array_equal(same_bias, bias)


def test_depthwise_weights_stay_as_they_are() -> None:
    weights = weights_of(DEPTHWISE, RNG)
    for packed, logical in zip(
        pack_weights(DEPTHWISE, PANELS_OF_FOUR, weights), weights, strict=True
    ):
        np.testing.assert_array_equal(packed, logical)


@pytest.mark.parametrize("operator", [POINTWISE, CONV, DEPTHWISE], ids=lambda op: op.key)
def test_packed_weights_are_float32_without_gaps_whatever_came_in(operator: Operator) -> None:
    doubles = [np.asfortranarray(array, np.float64) for array in weights_of(operator, RNG)]
    for array in pack_weights(operator, PANELS_OF_FOUR, doubles):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


@pytest.mark.parametrize("operator", [POINTWISE, CONV, DEPTHWISE, DENSE], ids=lambda op: op.key)
def test_a_kernels_weights_have_the_shapes_of_its_arguments(operator: Operator) -> None:
    packed = pack_weights(operator, PANELS_OF_FOUR, weights_of(operator, RNG))
    n_inputs = len(operator.input_shapes)
    shapes = argument_shapes(operator, PANELS_OF_FOUR)
    assert tuple(array.shape for array in packed) == shapes[n_inputs:-1]


def test_arguments_are_inputs_weights_output_and_rows_for_a_matrix_product() -> None:
    assert argument_shapes(POINTWISE, PANELS_OF_FOUR) == (
        (30, 6),
        (30, 12),  # the residual
        (3, 6, 4),
        (12,),
        (30, 12),
    )
    assert argument_shapes(CONV, PANELS_OF_FOUR) == (
        (1, 8, 9, 6),
        (1, 4, 9, 12),  # the residual
        (3, 3, 2, 6, 4),
        (12,),
        (1, 4, 9, 12),
    )
    scale = Operator("scale", (1, 8, 9, 6), 6)
    assert argument_shapes(scale, PANELS_OF_FOUR) == ((1, 8, 9, 6), (1, 1, 1, 6), (1, 8, 9, 6))


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (POINTWISE, True),
        (DENSE, True),
        (CONV, False),
        (DEPTHWISE, False),
        (Operator("conv2d", (1, 8, 8, 6), 12, stride=(1, 2)), False),
        (Operator("conv2d", (1, 8, 8, 6), 12, padding=(0, 0, 1, 0)), False),
        (Operator("depthwise_conv2d", (1, 8, 8, 6), 6), False),
    ],
)
def test_only_what_maps_every_pixel_by_itself_is_a_matrix_product(
    operator: Operator, expected: bool
) -> None:
    assert is_pointwise(operator) == expected


def test_weights_of_another_shape_are_refused_with_both_shapes() -> None:
    weight, bias = weights_of(CONV, RNG)
    with pytest.raises(ValueError, match=r"must have shape \(3, 2, 6, 12\), got \(2, 3, 6, 12\)"):
        pack_weights(CONV, PANELS_OF_FOUR, [weight.swapaxes(0, 1), bias])
    with pytest.raises(ValueError, match="argument"):
        pack_weights(CONV, PANELS_OF_FOUR, [weight])
