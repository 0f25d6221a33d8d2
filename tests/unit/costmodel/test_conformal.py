from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

from costmodel.conformal import Calibration, calibrate
from costmodel.model import HeldOut
from costmodel.network_fit import LeftOut


def test_the_quantile_is_the_finite_sample_order_statistic():
    calibration = Calibration(np.arange(1.0, 40.0), 1.0)  # 39 scores
    assert calibration.quantile(0.95) == 38  # ceil(40 * 0.95) = 38th smallest
    assert calibration.quantile(0.5) == 20


def test_too_few_scores_give_students_quantile_instead_of_infinity():
    few = Calibration(np.array([1.0, 1.0]), 1.0)  # with four scores of 1 mixed in: size 1
    assert few.quantile(0.95) == pytest.approx(t.ppf(0.975, 6))
    assert Calibration(np.zeros(0), 1.0).quantile(0.95) == pytest.approx(t.ppf(0.975, 4))


def test_unseen_variance_is_added_with_its_own_factor():
    calibration = Calibration(np.full(100, 2.0), 3.0)
    z = norm.ppf(0.975)
    bound = calibration.bound(np.array([100.0]), np.array([16.0]), np.array([4.0]), 0.95)
    half = np.sqrt((2 * 4) ** 2 + (3 * z * 2) ** 2)
    assert bound.high_us[0] == pytest.approx(100 + half)
    assert bound.low_us[0] == pytest.approx(100 - half)
    assert bound.sigma_us[0] == pytest.approx(half / z)


def test_no_latency_is_zero_or_below():
    calibration = Calibration(np.full(100, 2.0), 1.0)
    bound = calibration.bound(np.array([1.0]), np.array([100.0]), np.array([0.0]), 0.95)
    # A factor of h above 1 upwards, and its square downwards.
    assert bound.low_us[0] == pytest.approx(1.0 / bound.high_us[0] ** 2)


@pytest.mark.parametrize(("true_sd", "believed_sd"), [(0.1, 0.05), (0.1, 0.1), (0.15, 0.06)])
def test_a_model_too_sure_of_unseen_operators_is_corrected(true_sd: float, believed_sd: float):
    rng = np.random.default_rng(0)
    n_networks, n_operators = 60, 120
    counts = (rng.random((n_networks, n_operators)) < 0.3).astype(float)
    left_out = LeftOut(rng.normal(size=n_networks), np.ones(n_networks))
    folds = [
        HeldOut(0, members, true_sd * rng.normal(size=24), believed_sd**2 * np.eye(24))
        for members in np.split(rng.permutation(n_operators), 5)
    ]
    found = calibrate(left_out, counts, np.full(n_operators, 100.0), folds)
    assert found.unseen_factor == pytest.approx(true_sd / believed_sd, rel=0.35)


def test_drift_widens_every_interval_by_its_own_share():
    still = Calibration(np.full(100, 2.0), 1.0)
    moving = Calibration(np.full(100, 2.0), 1.0, drift=0.03)
    mean = np.array([100.0, 1000.0])
    first, second = (c.bound(mean, np.full(2, 4.0), np.zeros(2), 0.95) for c in (still, moving))
    z = norm.ppf(0.975)
    assert second.high_us - mean == pytest.approx(np.hypot(4.0, z * 0.03 * mean))
    assert second.sigma_us == pytest.approx(np.hypot(first.sigma_us, 0.03 * mean))
