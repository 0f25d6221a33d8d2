"""A ranking learns an order that it was shown, and nothing from too little."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from costmodel.ranking import N_LEAST_OPERATORS, learn_ranking
from costmodel.tiling import TILING_NAMES, compute_tiling_features, read_nest
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import candidates
from profiler.target import Target
from profiler.tunings import ListOrder, Ranking, Trial

TARGET = Target("x86_64-linux-gnu", "x86-64-v3", vector_bytes=32)
WIDE = replace(TARGET, cpu="x86-64-v4", vector_bytes=64, n_vector_registers=32)


def gemm(size: int, depth: int, width: int) -> Operator:
    return Operator("conv2d", (1, size, size, depth), width, epilogue=("bias", "relu"))


OPERATORS = [
    gemm(size, depth, width)
    for size in (7, 14, 28, 56)
    for depth in (16, 40, 96, 240)
    for width in (24, 64, 112, 320)
]


def few_vectors(_: Operator, schedule: Schedule) -> float:
    """A board on which every vector of a tile costs, and rows inside even more."""
    return 1.0 + 0.2 * schedule["vectors"] + 0.3 * (1 - schedule["panels_outer"])


def trials(
    operators: Sequence[Operator],
    cost: Callable[[Operator, Schedule], float],
    rng: np.random.Generator,
    target: Target = TARGET,
    device_id: str = "board",
) -> list[Trial]:
    """Each candidate's cost times the operator's work, with 2 % of noise."""
    return [
        Trial(
            device_id,
            target,
            op,
            schedule,
            op.n_flops / 1e5 * cost(op, schedule) * math.exp(0.02 * rng.normal()),
        )
        for op in operators
        for schedule in candidates(op, target)
    ]


def regrets(
    ranking: Ranking, operators: Sequence[Operator], cost: Callable[[Operator, Schedule], float]
) -> list[float]:
    """How much slower the first of each order is than the best candidate."""
    found = []
    for op in operators:
        costs = {schedule: cost(op, schedule) for schedule in candidates(op, TARGET)}
        found.append(costs[ranking.order(op, TARGET)[0]] / min(costs.values()) - 1.0)
    return found


def test_an_order_that_was_shown_is_found_again_for_other_operators() -> None:
    shuffled = [OPERATORS[index] for index in np.random.default_rng(5).permutation(len(OPERATORS))]
    learned, asked = shuffled[::2], shuffled[1::2]
    ranking = learn_ranking(trials(learned, few_vectors, np.random.default_rng(0)))
    listed = regrets(ListOrder(), asked, few_vectors)
    assert max(listed) > 0.3, "the list is in this order already: nothing is to be learned"
    assert max(regrets(ranking, asked, few_vectors)) < 0.03


def test_what_another_device_showed_is_learned_beside_ones_own() -> None:
    rng = np.random.default_rng(1)
    elsewhere = trials(OPERATORS[::2], few_vectors, rng, WIDE, "another")
    here = trials(OPERATORS[:3], few_vectors, rng)
    assert isinstance(learn_ranking(here), ListOrder)
    ranking = learn_ranking([*elsewhere, *here])
    listed = regrets(ListOrder(), OPERATORS[1::2], few_vectors)
    assert np.mean(regrets(ranking, OPERATORS[1::2], few_vectors)) < 0.5 * np.mean(listed)


def test_a_ranking_is_an_order_of_all_candidates() -> None:
    ranking = learn_ranking(trials(OPERATORS, few_vectors, np.random.default_rng(2)))
    for op in OPERATORS:
        order = ranking.order(op, TARGET)
        assert len(set(order)) == len(order)
        assert set(order) == set(candidates(op, TARGET))


def test_equal_trials_make_equal_rankings() -> None:
    made = trials(OPERATORS, lambda *_: 1.0, np.random.default_rng(3))  # noise alone
    first, second = learn_ranking(made), learn_ranking(made)
    assert [first.order(op, TARGET) for op in OPERATORS] == [
        second.order(op, TARGET) for op in OPERATORS
    ]


def test_without_trials_the_list_stands() -> None:
    assert isinstance(learn_ranking([]), ListOrder)


def test_with_too_few_operators_the_list_stands() -> None:
    rng = np.random.default_rng(4)
    few = trials(OPERATORS[: N_LEAST_OPERATORS - 1], few_vectors, rng)
    assert isinstance(learn_ranking(few), ListOrder)
    enough = trials(OPERATORS[:N_LEAST_OPERATORS], few_vectors, rng)
    assert not isinstance(learn_ranking(enough), ListOrder)


def test_the_list_stands_for_rules_of_which_nothing_was_timed() -> None:
    ranking = learn_ranking(trials(OPERATORS, few_vectors, np.random.default_rng(5)))
    window = Operator("depthwise_conv2d", (1, 28, 28, 96), 96, (3, 3), padding=(1, 1, 1, 1))
    assert ranking.order(window, TARGET) == candidates(window, TARGET)


def test_single_candidates_and_schedules_of_the_past_teach_nothing() -> None:
    made = trials(OPERATORS, few_vectors, np.random.default_rng(6))
    alone = [trial for trial in made if trial.schedule == candidates(trial.operator, TARGET)[0]]
    assert isinstance(learn_ranking(alone), ListOrder)
    past = [replace(trial, schedule=Schedule("gemm", (("rows", 99),))) for trial in made]
    assert isinstance(learn_ranking(past), ListOrder)


EVERY_RULE = (
    gemm(14, 96, 40),
    Operator("dense", (1, 1, 1, 512), 1000, epilogue=("bias",)),
    Operator("conv2d", (1, 56, 56, 64), 64, (3, 3), padding=(1, 1, 1, 1)),
    Operator("conv2d", (1, 28, 28, 64), 128, (3, 3), padding=(1, 1, 1, 1), groups=4),
    Operator("depthwise_conv2d", (1, 28, 28, 96), 96, (5, 5), (2, 2), (2, 2, 2, 2)),
    Operator("global_avg_pool2d", (1, 7, 7, 960), 960),
    Operator("max_pool2d", (1, 112, 112, 64), 64, (3, 3), (2, 2), (1, 1, 1, 1)),
    Operator("add", (1, 14, 14, 96), 96),
)


@pytest.mark.parametrize("op", EVERY_RULE, ids=lambda op: op.key)
@pytest.mark.parametrize(
    "target", [TARGET, WIDE, replace(WIDE, threads=2)], ids=["v3", "v4", "two threads"]
)
def test_features_of_every_rule_are_finite_and_tell_candidates_apart(
    op: Operator, target: Target
) -> None:
    found = candidates(op, target)
    features = compute_tiling_features(op, target, found)
    assert features.shape == (len(found), len(TILING_NAMES))
    assert np.isfinite(features).all()
    without_position = np.delete(features, TILING_NAMES.index("position"), axis=1)
    assert len(np.unique(without_position, axis=0)) == len(found)


def test_the_tiles_of_a_product_are_counted_with_their_ragged_ends() -> None:
    # 196 rows in tiles of at most 14 are fourteen; 40 channels are five vectors of eight lanes.
    options = (("rows", 14), ("vectors", 2), ("lanes", 8), ("panels_outer", 1))
    nest = read_nest(gemm(14, 96, 40), TARGET, Schedule("gemm", options))
    assert (nest.n_outer, nest.n_rows, nest.n_vectors, nest.depth) == (1, 196, 5, 96)
    assert (nest.n_row_tiles, nest.n_column_tiles) == (14, 3)
    assert nest.mean_vectors == pytest.approx(5 / 3)


def test_filtering_multiplies_less_than_the_window_that_it_replaces() -> None:
    op = Operator("conv2d", (1, 56, 56, 64), 64, (3, 3), padding=(1, 1, 1, 1))
    found = candidates(op, TARGET)
    features = compute_tiling_features(op, TARGET, found)
    products = features[:, TILING_NAMES.index("log_products")]
    plain = [n for n, schedule in zip(products, found, strict=True) if schedule.rule == "conv"]
    filtered = [n for n, s in zip(products, found, strict=True) if s.rule == "winograd"]
    # Squares of 4x4 cost 36 products where a window costs 144: log2 of a quarter is -2.
    assert np.array(filtered) == pytest.approx(plain[0] - 2, abs=0.1)
