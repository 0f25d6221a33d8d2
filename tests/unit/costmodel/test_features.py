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
from profiler.operator import Operator, generic_operator, parse_key
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import default_schedule


def test_equal_arguments_give_equal_vectors_whatever_came_between():
    operator = conv(28, 32, 64, 3, 1, "relu")
    before = compute_features(operator, TARGET, choose_schedule(operator))
    compute_feature_matrix(mobile_network(np.random.default_rng(0)), TARGET, choose_schedule)
    np.testing.assert_array_equal(
        before, compute_features(operator, TARGET, choose_schedule(operator))
    )


def test_columns_hold_what_their_names_say():
    operator = conv(28, 32, 64, 1, 1, "relu")
    vector = compute_features(operator, TARGET, Schedule("gemm", (("rows", 5), ("channels", 24))))
    value = dict(zip(FEATURE_NAMES, vector, strict=True))
    assert value["log_flops"] == pytest.approx(math.log2(2 * 28 * 28 * 32 * 64))
    assert value["log_bytes"] == pytest.approx(math.log2(4 * (28 * 28 * (32 + 64) + 32 * 64 + 64)))
    assert value["rows_remainder"] == pytest.approx(784 % 5 / 5)
    assert value["channels_remainder"] == pytest.approx(64 % 24 / 24)
    # Five rows and three vectors of eight: 8 loads for 15 sums, none of the units idle.
    assert value["loads_per_sum"] == pytest.approx(8 / 15)
    assert value["idle_sums"] == 0
    assert value["log_padded_channels"] == pytest.approx(math.log2(72 / 64))
    assert value["has_relu"] == 1
    assert value["has_add"] == 0


@pytest.mark.parametrize(
    "operator",
    [
        Operator("add", (1, 1, 1, 3), 3),
        Operator("scale", (1, 7, 7, 5), 5),
        Operator("global_avg_pool2d", (1, 1, 1, 1), 1),
        Operator("dense", (1, 1, 1, 1), 1),
        Operator("max_pool2d", (2, 9, 9, 3), 3, (3, 3), (2, 2)),
        depthwise(7, 3, 7, 2, "swish"),
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
    vector = compute_features(generic_operator(body), TARGET, Schedule("generic", (("rows", 6),)))
    value = dict(zip(FEATURE_NAMES, vector, strict=True))
    assert value["log_iterations"] == 12
    assert value["log_terms"] == 4
    assert value["costly_share"] == 0.25
    assert value["strided_share"] == 0.75
    assert value["log_blocks"] == 2
    assert value["log_pixels"] == 10
    assert value["log_bytes"] == 13
    assert value["log_flops"] == pytest.approx(math.log2(5000))
    assert value["tile_rows"] == 6
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
