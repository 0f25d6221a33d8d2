"""Packed weights against the formula of each index, worked by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from profiler.layout import argument_shapes, is_pointwise, pack_weights
from profiler.minimal_filtering import FILTERINGS
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule

from .examples import Array, weights_of

RNG = np.random.default_rng(3)
POINTWISE = Operator("conv2d", (2, 3, 5, 6), 12, epilogue=("bias", "add"))
DENSE = Operator("dense", (2, 1, 1, 6), 12, epilogue=("bias",))
CONV = Operator(
    "conv2d", (1, 8, 9, 6), 12, (3, 2), (2, 1), (1, 0, 1, 1), epilogue=("bias", "add", "relu")
)
GROUPED = replace(CONV, input_shape=(1, 8, 9, 8), out_channels=18, groups=2)
DEPTHWISE = Operator("depthwise_conv2d", (1, 8, 9, 6), 6, (3, 2), epilogue=("bias",))


def panels_of(vectors: int, lanes: int) -> Schedule:
    return Schedule("any", (("vectors", vectors), ("lanes", lanes)))


PANELS_OF_FOUR = panels_of(1, 4)
#: Vectors and lanes, and the vectors of each panel of twelve channels.
PANELS_OF_TWELVE = [
    (1, 4, (1, 1, 1)),
    (2, 4, (2, 1)),
    (3, 4, (3,)),
    (8, 4, (3,)),
    (1, 8, (1, 1)),
    (2, 8, (2,)),
    (1, 16, (1,)),
]


def places(
    n_channels: int, lanes: int, panels: tuple[int, ...], n_terms: int
) -> Iterator[tuple[int, int, int | None]]:
    """(place, term, channel) of every packed number; a channel of None is padding.

    The panel whose first vector is `first` starts after n_terms numbers for each channel before
    it; in it, each term has a row of all its vectors.
    """
    first = 0
    for n_vectors in panels:
        for term, vector, lane in np.ndindex(n_terms, n_vectors, lanes):
            place = first * lanes * n_terms + term * n_vectors * lanes + vector * lanes + lane
            channel = (first + vector) * lanes + lane
            yield place, term, channel if channel < n_channels else None
        first += n_vectors


def check_panels(
    packed: Array, terms: Array, lanes: int, panels: tuple[int, ...], n_padded: int
) -> None:
    """Compare flat panels with terms (n_terms, n_channels), number by number."""
    n_terms, n_channels = terms.shape
    assert packed.shape == (n_terms * n_padded,)
    seen = []
    for place, term, channel in places(n_channels, lanes, panels, n_terms):
        seen.append(place)
        assert packed[place] == (0.0 if channel is None else terms[term, channel])
    assert sorted(seen) == list(range(packed.size))


def numbered(*shape: int) -> Array:
    """1, 2, 3 and so on: none of them is the zero of padding."""
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def test_channels_that_fill_no_vector_are_followed_by_zeros() -> None:
    dense = Operator("dense", (1, 1, 1, 2), 5, epilogue=("bias",))
    weights = [numbered(2, 5), numbered(5)]
    one, bias = pack_weights(dense, PANELS_OF_FOUR, weights)
    assert one.tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 5, 0, 0, 0, 10, 0, 0, 0]
    assert bias.tolist() == [1, 2, 3, 4, 5, 0, 0, 0]
    both, bias = pack_weights(dense, panels_of(2, 4), weights)
    assert both.tolist() == [1, 2, 3, 4, 5, 0, 0, 0, 6, 7, 8, 9, 10, 0, 0, 0]
    assert bias.tolist() == [1, 2, 3, 4, 5, 0, 0, 0]


def test_panels_of_two_sizes_follow_each_other_the_larger_first() -> None:
    dense = Operator("dense", (1, 1, 1, 2), 9)
    (packed,) = pack_weights(dense, panels_of(2, 4), [numbered(2, 9)])
    first = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17]
    assert packed.tolist() == [*first, 9, 0, 0, 0, 18, 0, 0, 0]


def test_each_group_ends_in_zeros_of_its_own() -> None:
    conv = Operator(
        "conv2d", (1, 4, 4, 4), 6, (1, 2), padding=(0, 1, 0, 0), epilogue=("bias",), groups=2
    )
    packed, bias = pack_weights(conv, PANELS_OF_FOUR, [numbered(1, 2, 2, 6), numbered(6)])
    left = [1, 2, 3, 0, 7, 8, 9, 0, 13, 14, 15, 0, 19, 20, 21, 0]
    right = [4, 5, 6, 0, 10, 11, 12, 0, 16, 17, 18, 0, 22, 23, 24, 0]
    assert packed.tolist() == [*left, *right]
    assert bias.tolist() == [1, 2, 3, 0, 4, 5, 6, 0]


@pytest.mark.parametrize("operator", [POINTWISE, DENSE], ids=lambda operator: operator.kind)
@pytest.mark.parametrize(("vectors", "lanes", "panels"), PANELS_OF_TWELVE)
def test_a_matrix_is_packed_into_panels_of_output_channels(
    operator: Operator, vectors: int, lanes: int, panels: tuple[int, ...]
) -> None:
    matrix, bias = weights_of(operator, RNG)
    packed, padded = pack_weights(operator, panels_of(vectors, lanes), [matrix, bias])
    n_padded = sum(panels) * lanes
    check_panels(packed, matrix.reshape(6, 12), lanes, panels, n_padded)
    np.testing.assert_array_equal(padded, [*bias, *[0.0] * (n_padded - 12)])


@pytest.mark.parametrize(("vectors", "lanes", "panels"), PANELS_OF_TWELVE)
def test_a_convolution_is_packed_into_panels_of_output_channels(
    vectors: int, lanes: int, panels: tuple[int, ...]
) -> None:
    weight, bias = weights_of(CONV, RNG)
    packed, padded = pack_weights(CONV, panels_of(vectors, lanes), [weight, bias])
    # The terms of a sum: top to bottom, left to right, input channel by input channel.
    terms = np.array([weight[y, x, depth] for y, x, depth in np.ndindex(3, 2, 6)])
    n_padded = sum(panels) * lanes
    check_panels(packed, terms, lanes, panels, n_padded)
    np.testing.assert_array_equal(padded, [*bias, *[0.0] * (n_padded - 12)])


@pytest.mark.parametrize(
    ("vectors", "lanes", "panels", "n_padded"),
    [
        (1, 4, (1, 1, 1), 12),
        (2, 4, (2, 1), 12),
        (4, 4, (3,), 12),
        (1, 8, (1, 1), 16),
        (3, 8, (2,), 16),
        (2, 16, (1,), 16),
    ],
)
def test_groups_are_packed_one_after_the_other(
    vectors: int, lanes: int, panels: tuple[int, ...], n_padded: int
) -> None:
    weight, bias = weights_of(GROUPED, RNG)
    packed, padded = pack_weights(GROUPED, panels_of(vectors, lanes), [weight, bias])
    terms = np.array([weight[y, x, depth] for y, x, depth in np.ndindex(3, 2, 4)])
    zeros = [0.0] * (n_padded - 9)
    assert packed.shape == (2 * 24 * n_padded,)
    for group, panels_of_group in enumerate(packed.reshape(2, -1)):
        own = slice(9 * group, 9 * group + 9)
        check_panels(panels_of_group, terms[:, own], lanes, panels, n_padded)
    np.testing.assert_array_equal(padded, [*bias[:9], *zeros, *bias[9:], *zeros])


@pytest.mark.parametrize(("size", "n_products"), [(2, 16), (4, 36)])
def test_minimal_filtering_packs_panels_of_transformed_kernels(size: int, n_products: int) -> None:
    conv = Operator("conv2d", (1, 8, 9, 5), 12, (3, 3), padding=(1, 1, 1, 1), epilogue=("bias",))
    weight, bias = weights_of(conv, RNG)
    schedule = Schedule("winograd", (("size", size), ("vectors", 2), ("lanes", 4)))
    packed, padded = pack_weights(conv, schedule, [weight, bias])
    g = FILTERINGS[size].kernel
    transformed = np.array(
        [g @ weight[:, :, k, o].astype(np.float64) @ g.T for k, o in np.ndindex(5, 12)]
    ).reshape(5, 12, n_products)
    terms = np.array([transformed[k, :, p] for p, k in np.ndindex(n_products, 5)])
    check_panels(packed, terms.astype(np.float32), 4, (2, 1), 12)
    np.testing.assert_array_equal(padded, bias)
    shapes = argument_shapes(conv, schedule)
    assert shapes[1:] == ((n_products * 5 * 12,), (12,), (1, 8, 9, 12))


def test_depthwise_weights_stay_as_they_are() -> None:
    weights = weights_of(DEPTHWISE, RNG)
    for packed, logical in zip(
        pack_weights(DEPTHWISE, PANELS_OF_FOUR, weights), weights, strict=True
    ):
        np.testing.assert_array_equal(packed, logical)


@pytest.mark.parametrize("operator", [POINTWISE, CONV, GROUPED, DEPTHWISE], ids=lambda op: op.key)
def test_packed_weights_are_float32_without_gaps_whatever_came_in(operator: Operator) -> None:
    doubles = [np.asfortranarray(array, np.float64) for array in weights_of(operator, RNG)]
    for array in pack_weights(operator, PANELS_OF_FOUR, doubles):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


@pytest.mark.parametrize("schedule", [PANELS_OF_FOUR, panels_of(2, 8)], ids=lambda s: s.text)
@pytest.mark.parametrize(
    "operator", [POINTWISE, CONV, GROUPED, DEPTHWISE, DENSE], ids=lambda op: op.key
)
def test_a_kernels_weights_have_the_shapes_of_its_arguments(
    operator: Operator, schedule: Schedule
) -> None:
    packed = pack_weights(operator, schedule, weights_of(operator, RNG))
    n_inputs = len(operator.input_shapes)
    shapes = argument_shapes(operator, schedule)
    assert tuple(array.shape for array in packed) == shapes[n_inputs:-1]


def test_arguments_are_inputs_weights_output_and_rows_for_a_matrix_product() -> None:
    assert argument_shapes(POINTWISE, PANELS_OF_FOUR) == (
        (30, 6),
        (30, 12),  # the residual
        (6 * 12,),
        (12,),
        (30, 12),
    )
    assert argument_shapes(POINTWISE, panels_of(1, 8))[2:4] == ((6 * 16,), (16,))
    assert argument_shapes(CONV, PANELS_OF_FOUR) == (
        (1, 8, 9, 6),
        (1, 4, 9, 12),  # the residual
        (3 * 2 * 6 * 12,),
        (12,),
        (1, 4, 9, 12),
    )
    # Two groups of nine channels, in three vectors each.
    assert argument_shapes(GROUPED, PANELS_OF_FOUR)[2:4] == ((3 * 2 * 4 * 24,), (24,))
    assert argument_shapes(replace(DENSE, epilogue=()), PANELS_OF_FOUR) == ((2, 6), (72,), (2, 12))
    assert argument_shapes(DEPTHWISE, PANELS_OF_FOUR) == (
        (1, 8, 9, 6),
        (3, 2, 6),
        (6,),
        (1, 6, 8, 6),
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
        (Operator("conv2d", (1, 8, 8, 6), 12, groups=2), False),
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
