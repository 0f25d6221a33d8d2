from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import TARGET, choose_schedule, conv, depthwise, mobile_network

from costmodel.features import (
    FEATURE_NAMES,
    SMOOTH_COLUMNS,
    columns,
    compute_feature_matrix,
    compute_features,
)
from profiler.generic import GenericBody, LoopTraits, TensorType
from profiler.operator import Operator, generic_operator, parse_key, separable_operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import default_schedule


def test_equal_arguments_give_equal_vectors_whatever_came_between():
    operator = conv(28, 32, 64, 3, 1, "relu")
    before = compute_features(operator, TARGET, choose_schedule(operator))
    compute_feature_matrix(mobile_network(np.random.default_rng(0)), TARGET, choose_schedule)
    np.testing.assert_array_equal(
        before, compute_features(operator, TARGET, choose_schedule(operator))
    )


def values_of(operator: Operator, rule: str, **parameters: int) -> dict[str, float]:
    vector = compute_features(operator, TARGET, Schedule(rule, tuple(parameters.items())))
    return dict(zip(FEATURE_NAMES, vector, strict=True))


def test_columns_hold_what_their_names_say():
    operator = conv(28, 32, 60, 1, 1, "relu")
    value = values_of(operator, "gemm", rows=5, vectors=3, lanes=8, panels_outer=1)
    assert value["log_flops"] == pytest.approx(math.log2(2 * 28 * 28 * 32 * 60))
    assert value["log_bytes"] == pytest.approx(math.log2(4 * (28 * 28 * (32 + 60) + 32 * 60 + 60)))
    assert value["tile_rows"] == 5
    assert value["tile_channels"] == 24
    # Five rows and three vectors of eight: 8 loads for 15 sums, none of the units idle.
    assert value["loads_per_sum"] == pytest.approx(8 / 15)
    assert value["idle_sums"] == 0
    assert value["is_gemm"] == 1
    assert value["channels_outer"] == 1
    # Sixty channels in eight vectors of eight, half of the last one empty.
    assert value["log_padded_channels"] == pytest.approx(math.log2(64 / 60))
    assert value["lane_remainder"] == 0.5
    assert value["has_relu"] == 1
    assert value["has_add"] == 0


def test_tasks_share_the_arithmetic():
    operator = conv(28, 64, 64, 3)  # far more arithmetic than memory
    parameters = {"pixels": 7, "vectors": 4, "lanes": 8, "panels_outer": 1}
    alone = values_of(operator, "conv", **parameters)["log_roofline_cycles"]
    for tasks in ("row_tasks", "channel_tasks"):
        shared = values_of(operator, "conv", **parameters, **{tasks: 4})["log_roofline_cycles"]
        assert alone - shared == pytest.approx(2)


def test_a_tile_of_narrow_vectors_counts_their_lanes():
    # Three channels in vectors of four where registers hold eight; two sums where eight fit.
    value = values_of(conv(14, 8, 3, 3), "conv", pixels=2, vectors=1, lanes=4, panels_outer=0)
    assert value["tile_rows"] == 2
    assert value["tile_channels"] == 4
    assert value["loads_per_sum"] == 3 / 2
    assert value["idle_sums"] == 6 / 8
    assert value["is_gemm"] == 0
    assert value["channels_outer"] == 0
    assert value["log_padded_channels"] == pytest.approx(math.log2(4 / 3))
    assert value["lane_remainder"] == 3 / 8


def test_every_group_pads_its_own_channels():
    grouped = Operator("conv2d", (1, 28, 28, 68), 68, groups=2)
    value = values_of(grouped, "conv", pixels=4, vectors=3, lanes=8, panels_outer=1)
    assert value["log_padded_channels"] == pytest.approx(math.log2(40 / 34))
    assert value["lane_remainder"] == 2 / 8
    whole = values_of(conv(28, 68, 68), "conv", pixels=4, vectors=3, lanes=8, panels_outer=1)
    assert whole["log_padded_channels"] == pytest.approx(math.log2(72 / 68))


@pytest.mark.parametrize(("size", "saved"), [(2, 36 / 16), (4, 144 / 36)])
def test_minimal_filtering_counts_the_products_that_it_saves(size: int, saved: float):
    value = values_of(
        conv(28, 32, 64, 3), "winograd", size=size, tile_rows=2, rows=6, vectors=4, lanes=8
    )
    assert value["log_saved_products"] == pytest.approx(math.log2(saved))
    assert value["tile_rows"] == 6
    assert value["tile_channels"] == 32
    assert value["loads_per_sum"] == pytest.approx(10 / 24)
    assert value["channels_outer"] == -1  # it has one order
    assert value["log_flops"] == pytest.approx(math.log2(2 * 28 * 28 * 32 * 64 * 9))
    direct = values_of(conv(28, 32, 64, 3), "conv", pixels=4, vectors=2, lanes=8, panels_outer=0)
    assert direct["log_saved_products"] == 0


def test_a_separable_convolution_tells_what_lies_between_its_halves():
    operator = separable_operator(depthwise(14, 24, 3, 2, "swish"), conv(7, 24, 40))
    tile = {"rows": 6, "vectors": 2, "lanes": 8, "panels_outer": 1}
    value = values_of(operator, "separable", band=2, pixels=7, channels_outer=1, **tile)
    assert value["log_between_bytes"] == pytest.approx(math.log2(4 * 7 * 7 * 24))
    assert value["log_band_bytes"] == pytest.approx(math.log2(4 * 2 * 7 * 24))
    assert value["depthwise_share"] == pytest.approx(9 / (9 + 40))
    assert value["has_costly_inner_activation"] == 1
    assert (value["tile_rows"], value["tile_channels"]) == (6, 16)
    others = values_of(conv(7, 24, 40), "gemm", **tile)
    assert others["log_between_bytes"] == others["depthwise_share"] == 0


def test_the_order_of_loops_is_one_column_by_either_of_its_names():
    window = depthwise(14, 24, 3, 1, "relu")
    for order in (0, 1):
        value = values_of(window, "window", pixels=7, vectors=1, lanes=8, channels_outer=order)
        assert value["channels_outer"] == order
        assert value["tile_rows"] == 7
    mean = values_of(Operator("global_avg_pool2d", (1, 7, 7, 24), 24), "mean", vectors=3, lanes=8)
    assert mean["channels_outer"] == -1  # it has none
    assert (mean["tile_rows"], mean["tile_channels"]) == (1, 24)


@pytest.mark.parametrize(
    "operator",
    [
        Operator("add", (1, 1, 1, 3), 3),
        Operator("scale", (1, 7, 7, 5), 5),
        Operator("global_avg_pool2d", (1, 1, 1, 1), 1),
        Operator("dense", (1, 1, 1, 1), 1),
        Operator("max_pool2d", (2, 9, 9, 3), 3, (3, 3), (2, 2)),
        depthwise(7, 3, 7, 2, "swish"),
        separable_operator(depthwise(7, 3, 7, 2, "swish"), conv(4, 3, 5)),
    ],
)
def test_every_kind_has_finite_features_even_with_a_schedule_of_no_numbers(operator: Operator):
    vector = compute_features(operator, TARGET, Schedule("anything"))
    assert vector.shape == (len(FEATURE_NAMES),)
    assert np.isfinite(vector).all()


def test_generic_operators_are_told_apart_by_their_loops_alone():
    traits = LoopTraits(4096, 1024, 16, 1024, 4)
    kinds = TensorType((32, 8, 4)), TensorType((16, 64))
    body = GenericBody("softmax", kinds[:1], (), kinds[1:], 5000, "0" * 64, traits)
    value = values_of(generic_operator(body), "generic", rows=6, vectors=4)
    assert value["log_iterations"] == 12
    assert value["log_terms"] == 4
    assert value["costly_share"] == 0.25
    assert value["strided_share"] == 0.75
    assert value["log_blocks"] == 2
    assert value["log_pixels"] == 10
    assert value["log_bytes"] == 13
    assert value["log_flops"] == pytest.approx(math.log2(5000))
    assert value["tile_rows"] == 6
    assert value["tile_channels"] == 4 * 8
    for name in ("loads_per_sum", "idle_sums", "is_gemm", "channels_outer"):
        assert value[name] == 0
    assert value["log_padded_channels"] == value["lane_remainder"] == 0
    assert value["log_saved_products"] == 0
    assert value["log_in_channels"] == value["log_kernel_area"] == value["dilation"] == 0
    own = compute_features(conv(28, 32, 64), TARGET, choose_schedule(conv(28, 32, 64)))
    for name in ("log_iterations", "log_terms", "costly_share", "strided_share", "log_blocks"):
        assert own[FEATURE_NAMES.index(name)] == 0


shapes = st.lists(st.integers(1, 40), max_size=5).map(tuple)
types = st.builds(TensorType, shapes, st.sampled_from(["float32", "int64", "bool"]))


@given(
    st.lists(types, max_size=2).map(tuple),
    st.lists(types, min_size=1, max_size=2).map(tuple),
    st.integers(0, 10**12),
    st.none() | st.builds(LoopTraits, st.integers(100, 10**12), st.integers(0, 10**12),
                          st.integers(1, 10**6), st.integers(0, 100), st.integers(1, 50)),
)  # fmt: skip
def test_any_generic_operator_has_finite_features_and_a_key_that_keeps_them(
    inputs: tuple[TensorType, ...],
    outputs: tuple[TensorType, ...],
    flops: int,
    traits: LoopTraits | None,
):
    body = GenericBody("anything", inputs, (), outputs, flops, "f" * 64, traits)
    operator = generic_operator(body)
    assert parse_key(operator.key) == operator
    vector = compute_features(operator, TARGET, default_schedule(operator, TARGET))
    assert np.isfinite(vector).all()


@pytest.mark.parametrize(
    "operator",
    [
        Operator("conv2d", (1, 1, 16000, 1), 256, (1, 400), (1, 160)),  # a one-dimensional one
        Operator("dense", (197 * 8, 1, 1, 192), 576, epilogue=("bias",)),
        Operator("dense", (1, 1, 1, 1), 1),
        Operator("avg_pool2d", (1, 1, 1, 2048), 2048, (1, 1)),
        Operator("depthwise_conv2d", (1, 7, 7, 768), 768, (7, 7), padding=(3, 3, 3, 3)),
    ],
)
def test_unusual_shapes_with_the_schedules_they_would_get_have_finite_features(operator: Operator):
    vector = compute_features(operator, TARGET, default_schedule(operator, TARGET))
    assert np.isfinite(vector).all()


def test_columns_are_named_once_and_no_operators_make_an_empty_matrix():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert len(columns(SMOOTH_COLUMNS)) == len(SMOOTH_COLUMNS)
    matrix = compute_feature_matrix([], TARGET, choose_schedule)
    assert matrix.shape == (0, len(FEATURE_NAMES))
