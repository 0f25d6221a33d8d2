from __future__ import annotations

import numpy as np
import pytest
from conftest import Study, fit
from simulated import (
    TARGET,
    choose_schedule,
    conv,
    depthwise,
    measure_operators,
    true_alone_us,
    true_in_place_us,
)

from costmodel.features import compute_feature_matrix
from costmodel.labels import label_operators
from costmodel.latency import LatencyModel
from profiler.measurement import OperatorLatency
from profiler.operator import Operator


def unseen_errors(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Log error and believed standard deviation of the test networks' unmeasured operators."""
    operators = study.model.unseen([op for row in study.test for op in row.operators])
    features = compute_feature_matrix(operators, TARGET, choose_schedule)
    mean, covariance = study.model.operators.predict_log(operators, features)
    true = np.log([true_in_place_us(op) for op in operators])
    return mean - true, np.sqrt(np.diag(covariance))


def test_operators_between_measured_ones_are_predicted_within_a_few_percent(mobile: Study):
    error, _ = unseen_errors(mobile)
    assert len(error) > 50
    assert np.median(np.abs(error)) < 0.03
    assert np.quantile(np.abs(error), 0.9) < 0.10


def test_believed_errors_of_unseen_operators_are_as_large_as_the_real_ones(mobile: Study):
    error, sd = unseen_errors(mobile)
    assert 0.3 < np.sqrt(np.mean((error / sd) ** 2)) < 1.5


def test_an_operator_far_from_all_measured_ones_gets_a_wider_interval(mobile: Study):
    near, far = depthwise(28, 120, 5, 1, "relu"), depthwise(28, 4000, 11, 1, "relu")
    prediction = mobile.model.predict_operators_us([near, far])
    relative = prediction.sigma_us / prediction.mean_us
    assert relative[1] > 1.5 * relative[0]


def test_more_work_is_never_cheaper_in_steps_of_two(mobile: Study):
    for make in (
        lambda c: conv(14, c, 96),
        lambda c: conv(14, 96, c),
        lambda c: depthwise(14, c, 5, 1, "hard_swish"),
    ):
        mean = mobile.model.predict_operators_us([make(c) for c in (48, 96, 192, 384, 768)]).mean_us
        assert (np.diff(mean) > 0).all()


def test_a_kind_with_few_samples_is_predicted_by_the_pooled_model(mobile: Study):
    pools = [Operator("avg_pool2d", (1, s, s, 64), 64, (3, 3), (2, 2)) for s in (14, 28, 56)]
    rng = np.random.default_rng(0)
    model = fit([*mobile.operators, *measure_operators(pools, rng)], mobile.networks)
    assert "avg_pool2d" in model.operators.pooled_kinds
    asked = Operator("avg_pool2d", (1, 40, 40, 64), 64, (3, 3), (2, 2))
    predicted = model.predict_operators_us([asked]).mean_us[0]
    assert predicted == pytest.approx(true_in_place_us(asked), rel=0.25)


def test_a_measured_operator_is_priced_by_its_measurement(mobile: Study):
    direct = [row for row in mobile.operators if row.in_place_us is not None]
    prediction = mobile.model.predict_operators_us([row.operator for row in direct])
    truth = np.array([true_in_place_us(row.operator) for row in direct])
    # The device adds up to 3 % to whole networks, which the corrections spread over operators.
    assert np.median(np.abs(prediction.mean_us / truth - 1)) < 0.03


def test_operators_timed_only_alone_are_labelled_with_what_in_place_costs_their_likes(
    mobile: Study,
):
    operators = [row.operator for row in mobile.operators]
    features = compute_feature_matrix(operators, TARGET, choose_schedule)
    labels = label_operators(mobile.operators, features)
    true = np.log([true_in_place_us(op) for op in operators])
    naive = np.log([row.alone_us for row in mobile.operators])
    hidden = ~labels.is_direct
    assert hidden.sum() > 10
    assert np.abs(labels.log_us - true)[hidden].mean() < 0.4 * np.abs(naive - true)[hidden].mean()
    assert labels.log_sd[hidden].min() > labels.log_sd[~hidden].max()


def test_without_any_latency_in_place_the_one_alone_is_the_label_nearly():
    operators = [conv(14, c, 2 * c) for c in (16, 32, 64)]
    rows = [
        OperatorLatency(op, choose_schedule(op), true_alone_us(op), None, 0.01) for op in operators
    ]
    features = compute_feature_matrix(operators, TARGET, choose_schedule)
    ratio = np.exp(label_operators(rows, features).log_us) / [row.alone_us for row in rows]
    np.testing.assert_allclose(ratio, np.exp(0.03))


def test_fitting_twice_with_one_seed_gives_one_model(macro: Study):
    again = fit(macro.operators, macro.networks)
    asked = [depthwise(16, c, 5, 1, "relu") for c in (100, 200)]
    first, second = (m.predict_operators_us(asked) for m in (macro.model, again))
    np.testing.assert_array_equal(first.mean_us, second.mean_us)
    np.testing.assert_array_equal(first.high_us, second.high_us)


def test_three_operators_are_enough_to_predict_a_fourth():
    operators = [conv(14, c, 2 * c) for c in (32, 64, 128)]
    model = fit(measure_operators(operators, np.random.default_rng(0)), [])
    assert isinstance(model, LatencyModel)
    asked = conv(14, 96, 192)
    prediction = model.predict_operators_us([asked])
    assert prediction.mean_us[0] == pytest.approx(true_in_place_us(asked), rel=0.3)
    assert prediction.low_us[0] < true_in_place_us(asked) < prediction.high_us[0]
