from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from conftest import Study, fit, study_macro, study_mobile
from scipy.stats import norm
from simulated import (
    choose_schedule,
    conv,
    macro_network,
    measure_networks,
    measure_operators,
    mobile_network,
    true_network_us,
)

from costmodel.errors import TooFewMeasurementsError
from costmodel.network import OperatorPrior
from costmodel.network_fit import fit_networks
from costmodel.prediction import Prediction
from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.network import OperatorCounts, count_operators
from profiler.operator import Operator


def predict(study: Study, rows: list[NetworkLatency], confidence: float = 0.95) -> Prediction:
    counts = count_operators([row.operators for row in rows])
    return study.model.predict_networks_us(counts, confidence)


def coverage(study: Study, confidence: float = 0.95) -> float:
    measured = np.array([row.latency_us for row in study.test])
    prediction = predict(study, study.test, confidence)
    return float(np.mean((measured >= prediction.low_us) & (measured <= prediction.high_us)))


def true_errors(study: Study) -> np.ndarray:
    true = np.array([true_network_us(row.operators) for row in study.test])
    return np.abs(predict(study, study.test).mean_us / true - 1)


def test_the_simulated_devices_formula_is_recovered(macro: Study, mobile: Study):
    assert np.median(true_errors(macro)) < 0.01
    assert np.median(true_errors(mobile)) < 0.015


def test_intervals_cover_new_networks_as_often_as_they_claim():
    covered = [coverage(study_macro(seed)) for seed in range(1, 7)]
    assert 0.90 <= np.mean(covered) <= 0.99


def test_intervals_cover_networks_with_operators_that_nobody_measured(mobile: Study):
    covered = [coverage(study) for study in (mobile, study_mobile(1), study_mobile(2))]
    assert np.mean(covered) >= 0.90


def test_mean_plus_z_sigma_is_an_honest_limit():
    below = []
    for seed in range(1, 7):
        study = study_macro(seed)
        prediction = predict(study, study.test)
        limit = prediction.mean_us + norm.ppf(0.9) * prediction.sigma_us
        below.append(np.mean([row.latency_us for row in study.test] <= limit))
    assert 0.82 <= np.mean(below) <= 0.99


def test_the_interval_widens_where_operators_are_unseen(mobile: Study):
    rng = np.random.default_rng(7)
    seen = measure_networks("seen", [mobile_network(rng, (3, 7), (3, 6)) for _ in range(20)], rng)
    seen = [row for row in seen if not mobile.model.unseen(row.operators)]
    unseen = [row for row in mobile.test if len(mobile.model.unseen(row.operators)) > 10]
    assert seen
    assert unseen

    def relative_width(rows: list[NetworkLatency]) -> float:
        prediction = predict(mobile, rows)
        return float(np.median(prediction.sigma_us / prediction.mean_us))

    far = measure_networks("far", [mobile_network(rng, (11,), (9,)) for _ in range(20)], rng)
    assert relative_width(unseen) > 1.05 * relative_width(seen)
    assert relative_width(far) > 1.5 * relative_width(unseen)


def test_a_network_is_the_fixed_cost_plus_its_operators(mobile: Study):
    operators = mobile.test[0].operators
    total = mobile.model.fixed_us + mobile.model.predict_operators_us(operators).mean_us.sum()
    assert predict(mobile, mobile.test[:1]).mean_us[0] == pytest.approx(total, rel=1e-9)


def test_networks_correct_a_wrong_operator(macro: Study):
    wrong = macro.operators[3]
    rows = [
        OperatorLatency(
            r.operator, r.schedule, r.alone_us, (r.in_place_us or r.alone_us) * 1.3, 0.1
        )
        if r is wrong
        else r
        for r in macro.operators
    ]
    naive = next(r for r in rows if r.operator == wrong.operator).in_place_us
    assert naive is not None
    corrected = fit(rows, macro.networks).predict_operators_us([wrong.operator]).mean_us[0]
    assert corrected < naive


def test_posterior_agrees_with_the_closed_form_for_one_operator():
    """One operator of 100 us +- 10 %, seen alone in networks of 110 us: pulled towards 110."""
    operator = conv(14, 32, 64)
    prior = OperatorPrior((operator,), np.array([100.0]), np.array([[0.01]]))
    posterior, left_out = fit_networks(prior, np.ones((12, 1)), np.full(12, 110.0))
    costs = posterior.price((operator,), OperatorPrior((), np.zeros(0), np.zeros((0, 0))))
    mean, variance, unseen = posterior.predict(np.ones((1, 1)), costs)
    assert mean[0] == pytest.approx(110, rel=0.005)
    assert 0 < variance[0] < 100
    assert unseen[0] == 0
    assert np.abs(left_out.error_us).max() < 1


def test_left_out_networks_are_missed_by_more_than_fitted_ones_and_by_as_much_as_believed(
    macro: Study,
):
    prior = macro.model.networks.prior
    counts = np.array(
        [[row.operators.count(op) for op in prior.operators] for row in macro.networks], float
    )
    latency = np.array([row.latency_us for row in macro.networks])
    posterior, left_out = fit_networks(prior, counts, latency)
    costs = posterior.price(prior.operators, OperatorPrior((), np.zeros(0), np.zeros((0, 0))))
    inside = latency - posterior.predict(counts, costs)[0]
    assert np.mean(left_out.error_us**2) > np.mean(inside**2)
    score = left_out.error_us / np.sqrt(left_out.variance)
    assert 0.6 < np.sqrt(np.mean(score**2)) < 1.5


def test_networks_that_something_slow_ran_beside_hardly_move_the_others():
    moved = []
    for seed in range(1, 5):
        study = study_macro(seed)
        slow = [
            replace(row, latency_us=1.08 * row.latency_us) if index % 10 == 0 else row
            for index, row in enumerate(study.networks)
        ]
        disturbed = replace(study, model=fit(study.operators, slow))
        before, after = (predict(each, study.test).mean_us for each in (study, disturbed))
        moved.append(100 * float(np.median(after / before - 1)))
    assert np.mean(moved) < 0.35, "percent"


@pytest.mark.parametrize("n_networks", [0, 1, 2])
def test_few_networks_give_a_wide_honest_interval(n_networks: int):
    study = study_macro(5)
    model = fit(study.operators, study.networks[:n_networks])
    small = Study(model, study.operators, study.networks[:n_networks], study.test)
    assert coverage(small) >= 0.9
    wide, narrow = predict(small, study.test), predict(study, study.test)
    assert np.median(wide.sigma_us) > 1.5 * np.median(narrow.sigma_us)


def test_more_confidence_never_narrows_the_interval(macro: Study):
    levels = (0.3, 0.5, 0.8, 0.9, 0.95, 0.97, 0.99, 0.999)
    predictions = [predict(macro, macro.test[:3], level) for level in levels]
    for low, high in itertools.pairwise(predictions):
        assert (high.high_us >= low.high_us).all()
        assert (high.low_us <= low.low_us).all()
        np.testing.assert_array_equal(low.sigma_us, high.sigma_us)


def test_rows_are_independent_of_each_other_and_of_the_order_of_columns(mobile: Study):
    counts = count_operators([row.operators for row in mobile.test[:6]])
    together = mobile.model.predict_networks_us(counts)
    single = predict(mobile, mobile.test[3:4])
    assert together.mean_us[3] == pytest.approx(single.mean_us[0], rel=1e-9)
    assert together.high_us[3] == pytest.approx(single.high_us[0], rel=1e-9)
    order = np.random.default_rng(0).permutation(len(counts.operators))
    shuffled = OperatorCounts(tuple(counts.operators[i] for i in order), counts.counts[:, order])
    np.testing.assert_allclose(
        mobile.model.predict_networks_us(shuffled).high_us, together.high_us, rtol=1e-9
    )


def test_unseen_names_each_unmeasured_operator_once_in_order(mobile: Study):
    known, new, other = mobile.operators[0].operator, conv(9, 8, 24), conv(9, 8, 32)
    assert mobile.model.unseen([new, known, other, new]) == (new, other)


def test_networks_with_operators_nobody_measured_are_learned_from_too(macro: Study):
    part = [row for row in macro.operators if row.operator.kernel != (5, 5)]
    model = fit(part, macro.networks)
    study = Study(model, part, macro.networks, macro.test)
    asked = {op for row in macro.test for op in row.operators}
    assert asked - set(model.measured)
    assert asked - set(model.measured) >= set(model.unseen(list(asked)))
    assert np.median(true_errors(study)) < 0.02


def test_what_cannot_be_fitted_is_refused_with_the_reason(macro: Study):
    with pytest.raises(TooFewMeasurementsError, match="at least 1"):
        fit([], macro.networks)
    with pytest.raises(ValueError, match="repetitions"):
        fit([macro.operators[0], macro.operators[0]], [])
    op = macro.operators[0].operator
    with pytest.raises(ValueError, match="must be > 0"):
        fit([OperatorLatency(op, choose_schedule(op), 0.0, None, 0.0)], [])
    with pytest.raises(ValueError, match="nothing:1 must be > 0"):
        fit(macro.operators, [NetworkLatency("nothing:1", (op,), float("nan"), ())])


def test_a_measured_network_teaches_what_its_unmeasured_kind_costs(macro: Study):
    pool = Operator("max_pool2d", (1, 64, 64, 64), 64, (2, 2))
    base = macro.networks[0]
    latency_us = base.latency_us + 5 * 300.0
    strange = NetworkLatency("pooled:1", (*base.operators, *[pool] * 5), latency_us, (latency_us,))
    before = macro.model.predict_operators_us([pool])
    after = fit(macro.operators, [*macro.networks, strange]).predict_operators_us([pool])
    assert abs(after.mean_us[0] - 300) < 0.5 * abs(before.mean_us[0] - 300)
    assert after.sigma_us[0] / after.mean_us[0] < before.sigma_us[0] / before.mean_us[0]


def test_a_confidence_outside_of_0_and_1_is_refused(macro: Study):
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        predict(macro, macro.test[:1], 95)


def test_no_networks_are_predicted_as_no_numbers(macro: Study):
    counts = OperatorCounts((macro.operators[0].operator,), np.zeros((0, 1)))
    assert macro.model.predict_networks_us(counts).mean_us.shape == (0,)
    assert macro.model.predict_operators_us([]).mean_us.shape == (0,)


def test_two_families_of_very_different_size_share_one_model(mobile: Study):
    rng = np.random.default_rng(11)
    small = [macro_network(rng.integers(0, 3, 8)) for _ in range(60)]
    operators = {row.operator: row for row in mobile.operators}
    for row in measure_operators([op for net in small for op in net], rng):
        operators.setdefault(row.operator, row)
    rows = measure_networks("macro", small, rng)
    networks = [*mobile.networks, *rows[:30]]
    rows_of_operators = list(operators.values())
    model = fit(rows_of_operators, networks)
    for test in (rows[30:], mobile.test):
        study = Study(model, rows_of_operators, networks, test)
        assert np.median(true_errors(study)) < 0.02
        assert coverage(study) >= 0.85
