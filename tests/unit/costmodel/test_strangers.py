"""Operators of kinds that the device never ran: predicted by physics, with room for doubt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import Study, fit
from hypothesis import given
from hypothesis import strategies as st
from simulated import generic, measure_operators, true_in_place_us

from costmodel.roofline import Rates, Roofline, fit_rates, fit_roofline
from costmodel.strangers import fit_strangers
from profiler.network import count_operators
from profiler.operator import Operator

ROOFLINE = Roofline(100.0, 10.0, 0.5)


def pools() -> list[Operator]:
    return [
        Operator("max_pool2d", (1, size, size, 64), 64, (3, 3), (2, 2)) for size in (14, 28, 56)
    ]


def test_a_kind_that_was_never_measured_is_predicted_with_an_interval_that_holds_it(mobile: Study):
    asked = [*pools(), *(generic(n) for n in (10_000, 100_000, 1_000_000))]
    true = np.array([true_in_place_us(op) for op in asked])
    prediction = mobile.model.predict_operators_us(asked)
    assert (prediction.low_us > 0).all()
    assert (prediction.low_us <= true).all()
    assert (true <= prediction.high_us).all()
    assert (np.abs(np.log(prediction.mean_us / true)) < math.log(4)).all()


def test_the_interval_of_a_kind_never_measured_is_the_widest(mobile: Study):
    strange = mobile.model.predict_operators_us([*pools(), generic(100_000)])
    unseen = mobile.model.unseen([op for row in mobile.test for op in row.operators])
    familiar = mobile.model.predict_operators_us(unseen)
    least = (strange.sigma_us / strange.mean_us).min()
    assert least > 3 * np.median(familiar.sigma_us / familiar.mean_us)


def test_a_network_with_strange_operators_gets_the_wider_interval(mobile: Study):
    network = mobile.test[0].operators
    counts = count_operators([network, (*network, *pools(), generic(1_000_000))])
    prediction = mobile.model.predict_networks_us(counts)
    half = prediction.high_us - prediction.mean_us
    assert prediction.mean_us[1] > prediction.mean_us[0]
    assert half[1] > 2 * half[0]


def test_an_interval_narrows_once_operators_of_the_kind_are_measured(mobile: Study):
    asked = generic(300_000)
    before = mobile.model.predict_operators_us([asked])
    measured = measure_operators(
        [generic(n) for n in (20_000, 50_000, 100_000, 200_000, 500_000, 900_000, 1_500_000)],
        np.random.default_rng(0),
    )
    after = fit([*mobile.operators, *measured], mobile.networks).predict_operators_us([asked])
    assert after.sigma_us[0] / after.mean_us[0] < 0.5 * before.sigma_us[0] / before.mean_us[0]
    assert after.mean_us[0] == pytest.approx(true_in_place_us(asked), rel=0.15)


def test_intervals_hold_kinds_that_are_left_out_one_by_one(mobile: Study):
    operators = [row.operator for row in mobile.operators]
    log_us = np.log([true_in_place_us(op) for op in operators])
    inside = []
    for kind in {op.kind for op in operators}:
        kept = np.array([op.kind != kind for op in operators])
        others = [op for op, keep in zip(operators, kept, strict=True) if keep]
        members = [op for op, keep in zip(operators, kept, strict=True) if not keep]
        roofline = fit_roofline(others, np.exp(log_us[kept]))
        mean, covariance = fit_strangers(others, log_us[kept], roofline).predict(members)
        relative = np.expm1(log_us[~kept] - mean)
        inside += (np.abs(relative) < 1.96 * np.sqrt(np.diag(covariance))).tolist()
    assert np.mean(inside) >= 0.9


def test_kinds_that_all_follow_one_law_are_predicted_by_it_and_trusted_more():
    rates = Rates((0.5, 10.0, 100.0))
    measured = [
        Operator(kind, (1, size, size, 32), 32, kernel)  # type: ignore[arg-type]
        for kind, kernel in (("conv2d", (3, 3)), ("max_pool2d", (2, 2)), ("add", (1, 1)),
                             ("global_avg_pool2d", (1, 1)))
        for size in (8, 16, 32, 64)
    ]  # fmt: skip
    model = fit_strangers(measured, rates.log_us(measured), ROOFLINE)
    asked = [Operator("scale", (1, 20, 20, 64), 64), generic(50_000)]
    mean, covariance = model.predict(asked)
    np.testing.assert_allclose(mean, rates.log_us(asked), atol=0.05)
    lawless = fit_strangers(
        measured, rates.log_us(measured) + np.repeat([0.0, 2.0, -2.0, 1.0], 4), ROOFLINE
    )
    assert lawless.between > 2 * model.between
    sd = math.hypot(model.between, model.within)
    assert 1 + 1.96 * math.sqrt(covariance[0, 0]) == pytest.approx(math.exp(1.96 * sd))
    shared = model.between**2 / sd**2
    assert covariance[0, 1] == pytest.approx(shared * covariance[0, 0])


def test_a_single_measured_kind_leaves_a_factor_of_four_either_way():
    measured = [Operator("add", (1, size, size, 8), 8) for size in (8, 16, 32)]
    model = fit_strangers(measured, np.log([1.0, 2.0, 5.0]), ROOFLINE)
    assert math.exp(1.96 * model.between) == pytest.approx(4.0, rel=0.05)


@given(st.integers(1, 10**7), st.integers(0, 10**9), st.integers(0, 10**7))
def test_more_work_never_costs_a_stranger_less(n: int, flops: int, costly: int):
    rates = fit_rates(pools(), np.array([3.0, 11.0, 40.0]), ROOFLINE)
    lighter, heavier = generic(n, flops, costly), generic(2 * n, 2 * flops, 2 * costly)
    light, heavy = rates.log_us([lighter, heavier])
    assert math.isfinite(light)
    assert heavy >= light
