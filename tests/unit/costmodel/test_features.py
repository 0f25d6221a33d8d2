from __future__ import annotations

import math

import numpy as np
import pytest
from simulated import TARGET, choose_schedule, conv, depthwise, mobile_network

from costmodel.features import (
    FEATURE_NAMES,
    SMOOTH_COLUMNS,
    columns,
    compute_feature_matrix,
    compute_features,
)
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule


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


def test_columns_are_named_once_and_no_operators_make_an_empty_matrix():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert len(columns(SMOOTH_COLUMNS)) == len(SMOOTH_COLUMNS)
    matrix = compute_feature_matrix([], TARGET, choose_schedule)
    assert matrix.shape == (0, len(FEATURE_NAMES))
