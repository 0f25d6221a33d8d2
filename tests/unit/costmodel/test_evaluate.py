from __future__ import annotations

import numpy as np
import pytest
from conftest import Study, fit, study_macro
from scipy.stats import spearmanr
from simulated import choose_schedule, conv, depthwise

from costmodel.baselines import fit_baselines
from costmodel.evaluate import Evaluation, evaluate, judge, learn_curve
from costmodel.prediction import Prediction
from profiler.measurement import NetworkLatency, OperatorLatency


def judge_study(study: Study) -> Evaluation:
    rng = np.random.default_rng(0)
    return evaluate(study.model, study.operators, study.networks, study.test, rng)


def medians(result: Evaluation, family: str) -> tuple[float, dict[str, float]]:
    baselines = {n: dict(rows)[family].median_ape_percent for n, rows in result.baselines}
    return dict(result.families)[family].median_ape_percent, baselines


def test_ours_is_no_worse_than_the_best_baseline_where_all_is_measured():
    ours, best = [], []
    for seed in (1, 2, 3, 4):
        own, baselines = medians(judge_study(study_macro(seed)), "macro")
        ours.append(own)
        best.append(min(baselines.values()))
    assert np.mean(ours) <= np.mean(best)


def test_ours_is_far_better_than_the_best_baseline_on_unseen_operators(mobile: Study):
    result = judge_study(mobile)
    ours, baselines = medians(result, "mobile_unseen")
    assert set(baselines) == {"flops", "roofline", "lookup"}
    assert ours <= 0.8 * min(baselines.values())


def test_errors_are_what_their_names_say():
    measured = np.array([100.0, 200.0, 300.0, 400.0])
    mean = np.array([101.0, 184.0, 360.0, 400.0])  # errors of 1, 8, 20 and 0 %
    prediction = Prediction(mean, np.ones(4), mean - 10, mean + 10, 0.95)
    found = judge(prediction, measured, np.random.default_rng(0))
    assert found.n_networks == 4
    assert found.median_ape_percent == pytest.approx(4.5)
    assert found.within_5_percent == 50
    assert found.within_10_percent == 75
    assert found.coverage_percent == 50
    assert found.half_width_percent == pytest.approx(100 * (10 / 184 + 10 / 360) / 2)
    assert found.spearman == pytest.approx(spearmanr(mean, measured).statistic)
    assert found.median_ape_low_percent <= 4.5 <= found.median_ape_high_percent


def test_a_rank_correlation_without_meaning_is_none_and_nothing_to_judge_is_refused():
    one = Prediction(np.ones(1), np.ones(1), np.zeros(1), np.ones(1), 0.95)
    assert judge(one, np.ones(1), np.random.default_rng(0)).spearman is None
    with pytest.raises(ValueError, match="at least 1 measured network"):
        judge(one, np.ones(0), np.random.default_rng(0))


def test_more_measurements_make_the_learning_curve_fall(mobile: Study):
    points = learn_curve(
        fit, mobile.operators, mobile.networks, mobile.test, (0.15, 1.0), np.random.default_rng(0)
    )
    assert [p.n_networks for p in points] == [6, 40]
    assert points[1].n_operators == len(mobile.operators)
    assert points[1].errors.median_ape_percent < points[0].errors.median_ape_percent


def flops_line(n_operators: int) -> list[NetworkLatency]:
    op = conv(14, 32, 64)
    return [
        NetworkLatency(f"line:{n}", (op,) * n, 5.0 + n * op.n_flops / 1e5, (1.0,))
        for n in range(1, n_operators)
    ]


def test_the_flops_baseline_recovers_a_line():
    op = conv(14, 32, 64)
    row = OperatorLatency(op, choose_schedule(op), 3.0, None, 0.01)
    flops = next(b for b in fit_baselines([row], flops_line(6)) if b.name == "flops")
    predicted = flops.predict_us([(op,) * 10]).mean_us[0]
    assert predicted == pytest.approx(5.0 + 10 * op.n_flops / 1e5)


def test_the_lookup_table_scales_the_nearest_operator_by_work():
    small, large = depthwise(14, 32, 3, 1, "relu"), depthwise(56, 256, 7, 1, "relu")
    rows = [
        OperatorLatency(op, choose_schedule(op), latency, None, 0.01)
        for op, latency in ((small, 2.0), (large, 100.0))
    ]
    table = next(b for b in fit_baselines(rows, []) if b.name == "lookup")
    asked = depthwise(14, 48, 3, 1, "relu")  # 1.5 times the work of the small one
    assert table.predict_us([(asked,)]).mean_us[0] == pytest.approx(3.0)
    assert table.predict_us([(small, large)]).mean_us[0] == pytest.approx(102.0)


def test_the_lookup_table_takes_latencies_in_place_where_they_fit_networks_better(macro: Study):
    table = next(b for b in fit_baselines(macro.operators, macro.networks) if b.name == "lookup")
    rows = {row.operator: row for row in macro.operators}
    direct = [op for op, row in rows.items() if row.in_place_us is not None]
    in_place = [rows[op].in_place_us for op in direct]
    alone = [rows[op].alone_us for op in direct]
    prices = table.cost(direct)
    assert np.array_equal(prices, in_place) or np.array_equal(prices, alone)
