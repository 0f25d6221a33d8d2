from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from searchspace.accuracy import AccuracySource, TableAccuracy, load_accuracy
from searchspace.constraint import LatencyLimit
from searchspace.genes import as_genomes, pair_moves, single_moves
from searchspace.search.evolution import EvolutionSettings
from searchspace.search.result import InfeasibleLimitError, SearchProgress
from searchspace.search.search import SearchOptions, search
from searchspace.space import load_space

from .toy_latency import SIGMA_SHARE, ToyLatency, network_us

MACRO, OFA = load_space("nas_bench_macro"), load_space("ofa_mbv3")
LATENCY = ToyLatency()
SMALL = EvolutionSettings(
    n_restarts=1, n_population=30, n_generations=8, n_climbs=1, n_kicks=2, n_pair_moves=200
)


@pytest.fixture(scope="module")
def macro_accuracy() -> TableAccuracy:
    source = load_accuracy(MACRO)
    assert isinstance(source, TableAccuracy)
    return source


@pytest.fixture(scope="module")
def ofa_accuracy() -> AccuracySource:
    return load_accuracy(OFA)


@pytest.fixture(scope="module")
def macro_table(macro_accuracy: TableAccuracy) -> list[tuple[str, float, float]]:
    """(text, accuracy, mean us) of all subnets, each priced from its lowered network alone."""
    accuracies = macro_accuracy.accuracy_percent(macro_accuracy.genomes)
    texts = [MACRO.format(tuple(row.tolist())) for row in macro_accuracy.genomes]
    return [
        (text, float(accuracy), network_us(MACRO.lower(MACRO.parse(text)).operators))
        for text, accuracy in zip(texts, accuracies, strict=True)
    ]


def test_exhaustive_search_is_brute_force_for_twenty_limits(
    macro_accuracy: TableAccuracy, macro_table: list[tuple[str, float, float]]
) -> None:
    z = float(norm.ppf(0.9))
    uppers = {text: mean * (1 + z * SIGMA_SHARE) for text, _, mean in macro_table}
    low, high = min(uppers.values()), max(uppers.values())
    for share in np.linspace(0.003, 1.0, 20):
        limit_us = low + share * (high - low)
        feasible = [row for row in macro_table if uppers[row[0]] <= limit_us * (1 + 1e-12)]
        expected = sorted(feasible, key=lambda row: (-row[1], row[2], row[0]))[:5]
        limit = LatencyLimit(limit_us * (1 + 1e-12), 0.9)
        found = search(
            MACRO,
            LATENCY,
            macro_accuracy,
            limit,
            np.random.default_rng(0),
            SearchOptions(n_candidates=5),
        )
        assert [candidate.text for candidate in found.candidates] == [row[0] for row in expected]
        assert found.method == "exhaustive"
        assert found.n_evaluations == 3969


@given(share=st.floats(0.0, 1.0), confidence=st.floats(0.5, 0.999), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=25)
def test_search_never_returns_a_subnet_over_the_limit(
    macro_accuracy: TableAccuracy, share: float, confidence: float, seed: int
) -> None:
    fastest_us = network_us(MACRO.lower(MACRO.smallest()).operators)
    limit = LatencyLimit(fastest_us * (1.3 + 5 * share), confidence)
    found = search(MACRO, LATENCY, macro_accuracy, limit, np.random.default_rng(seed))
    z = float(norm.ppf(confidence))
    for candidate in found.candidates:
        mean_us = network_us(MACRO.lower(candidate.genome).operators)
        assert candidate.mean_us == pytest.approx(mean_us, rel=1e-9)
        assert mean_us * (1 + z * SIGMA_SHARE) <= limit.limit_us * (1 + 1e-9)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_evolution_stays_within_the_limit_and_names_distinct_subnets(
    ofa_accuracy: AccuracySource, share: float
) -> None:
    low, high = (network_us(OFA.lower(g).operators) for g in (OFA.smallest(), OFA.largest()))
    limit = LatencyLimit(1.06 * (low + share * (high - low)), 0.95)
    shares: list[SearchProgress] = []
    options = SearchOptions(evolution=SMALL, on_progress=shares.append)
    found = search(OFA, LATENCY, ofa_accuracy, limit, np.random.default_rng(1), options)
    assert found.method == "evolution"
    assert len({candidate.genome for candidate in found.candidates}) == 10
    for candidate in found.candidates:
        assert OFA.canonical(candidate.genome) == candidate.genome
        mean_us = network_us(OFA.lower(candidate.genome).operators)
        assert mean_us * (1 + 1.6449 * SIGMA_SHARE) <= limit.limit_us * (1 + 1e-4)
    accuracies = [candidate.accuracy_percent for candidate in found.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert shares[-1].share == pytest.approx(1.0)
    assert all(a.share <= b.share for a, b in itertools.pairwise(shares))


def test_evolution_finds_the_optimum_of_a_separable_accuracy() -> None:
    """With accuracy and latency that add up over stages, dynamic programming knows the best.

    Accuracy: sqrt of the active blocks' kernel x expansion, summed; each stage then has a Pareto
    front of its own, and joining the fronts gives the exact optimum.
    """
    table, limit_us = separable_optimum()

    class Separable:
        error_percent = 0.0
        error_bound_percent = 0.0

        def accuracy_percent(self, genomes: np.ndarray) -> np.ndarray:
            return np.array([separable_accuracy(tuple(row.tolist())) for row in genomes])

        def describe(self) -> str:
            return "separable"

    limit = LatencyLimit(limit_us * (1 + 1e-9), 0.5)
    found = search(OFA, LATENCY, Separable(), limit, np.random.default_rng(2))
    assert found.best.accuracy_percent > table - 0.05


def block_worth(kernel: int, expand: int, slot: int) -> float:
    return (1.0 + 0.1 * (slot % 7)) * math.sqrt(kernel * expand)


def separable_accuracy(genome: tuple[int, ...]) -> float:
    return sum(
        block_worth(genome[slot], genome[20 + slot], slot)
        for slot in range(20)
        if slot % 4 < genome[40 + slot // 4]
    )


def separable_optimum() -> tuple[float, float]:
    """The best accuracy within a middling limit, by joining the stages' Pareto fronts."""
    base = OFA.smallest()
    base_us = network_us(OFA.lower(base).operators)
    base_worth = separable_accuracy(base)
    limit_us = 1.7 * base_us
    front = [(base_us, base_worth)]
    for stage in range(5):
        options = []
        steps = block_steps(stage, base, base_us)
        for depth in (2, 3, 4):
            for blocks in itertools.product(range(9), repeat=depth):
                chosen = [steps[position][block] for position, block in enumerate(blocks)]
                options.append((sum(c[0] for c in chosen), sum(c[1] for c in chosen)))
        stage_front = pareto(options)
        joined = [(a + c, b + d) for a, b in front for c, d in stage_front if a + c <= limit_us]
        front = pareto(joined)
    return front[-1][1], limit_us


def block_steps(
    stage: int, base: tuple[int, ...], base_us: float
) -> list[list[tuple[float, float]]]:
    """(latency, worth) that each block adds to the smallest subnet, measured by single changes."""
    steps = []
    for position in range(4):
        slot = 4 * stage + position
        row = []
        for kernel, expand in itertools.product((3, 5, 7), (3, 4, 6)):
            genome = list(base)
            genome[slot], genome[20 + slot], genome[40 + stage] = (
                kernel,
                expand,
                max(2, position + 1),
            )
            reference_us, reference_worth = base_us, separable_accuracy(base)
            if position == 3:  # the fourth block comes with a third one of the smallest kind
                third = list(base)
                third[40 + stage] = 3
                reference_us = network_us(OFA.lower(tuple(third)).operators)
                reference_worth = separable_accuracy(tuple(third))
            row.append(
                (
                    network_us(OFA.lower(tuple(genome)).operators) - reference_us,
                    separable_accuracy(tuple(genome)) - reference_worth,
                )
            )
        steps.append(row)
    return steps


def pareto(options: list[tuple[float, float]]) -> list[tuple[float, float]]:
    best = -math.inf
    front = []
    for cost, worth in sorted(options, key=lambda option: (option[0], -option[1])):
        if worth > best:
            best = worth
            front.append((cost, worth))
    return front


def test_impossible_limit_ends_with_the_fastest_subnet(
    macro_accuracy: TableAccuracy, macro_table: list[tuple[str, float, float]]
) -> None:
    fastest = min(macro_table, key=lambda row: row[2])
    limit = LatencyLimit(0.5 * fastest[2], 0.95)
    upper_ms = fastest[2] * (1 + float(norm.ppf(0.95)) * SIGMA_SHARE) / 1e3
    with pytest.raises(InfeasibleLimitError) as caught:
        search(
            MACRO,
            LATENCY,
            macro_accuracy,
            limit,
            np.random.default_rng(0),
            SearchOptions(device="rpi4"),
        )
    assert caught.value.fastest.text == fastest[0]
    assert str(caught.value) == (
        f"no subnet of nas_bench_macro within {limit.limit_us / 1e3:.2f} ms on rpi4 "
        f"(95% confidence); the fastest is {upper_ms:.2f} ms: {fastest[0]}"
    )


def test_impossible_limit_on_a_large_space_is_refused_before_any_evolution(
    ofa_accuracy: AccuracySource,
) -> None:
    smallest_us = network_us(OFA.lower(OFA.smallest()).operators)
    shares: list[SearchProgress] = []
    options = SearchOptions(on_progress=shares.append)
    limit = LatencyLimit(0.5 * smallest_us)
    with pytest.raises(InfeasibleLimitError) as caught:
        search(OFA, LATENCY, ofa_accuracy, limit, np.random.default_rng(0), options)
    assert not shares
    fastest = caught.value.fastest
    assert fastest.mean_us <= smallest_us
    neighbours = OFA.counts(single_moves(fastest.genome, OFA.choices))
    assert LATENCY(neighbours).mean_us.min() >= fastest.mean_us * (1 - 1e-12)


def test_front_has_no_subnet_that_another_one_beats(macro_accuracy: TableAccuracy) -> None:
    limit = LatencyLimit(2.0 * network_us(MACRO.lower(MACRO.smallest()).operators))
    found = search(MACRO, LATENCY, macro_accuracy, limit, np.random.default_rng(0))
    for slower, faster in zip(found.front[1:], found.front[:-1], strict=True):
        assert slower.mean_us > faster.mean_us
        assert slower.accuracy_percent > faster.accuracy_percent
    assert found.front[-1].accuracy_percent == macro_accuracy.values.max()
    assert found.best.accuracy_percent == max(
        c.accuracy_percent for c in found.front if c.upper_us <= limit.limit_us
    )


def test_partial_table_is_searched_where_it_is_known() -> None:
    genomes = as_genomes([OFA.smallest(), OFA.largest()])
    source = TableAccuracy(OFA, genomes, np.array([70.0, 77.0]), "two networks")
    limit = LatencyLimit(1e9)
    found = search(OFA, LATENCY, source, limit, np.random.default_rng(0))
    assert [candidate.genome for candidate in found.candidates] == [OFA.largest(), OFA.smallest()]


def test_seconds_come_from_the_injected_clock(macro_accuracy: TableAccuracy) -> None:
    ticks = iter([10.0, 12.5])
    options = SearchOptions(clock=lambda: next(ticks))
    limit = LatencyLimit(1e9)
    found = search(MACRO, LATENCY, macro_accuracy, limit, np.random.default_rng(0), options)
    assert found.elapsed_s == 2.5


def test_moves_differ_in_exactly_one_and_exactly_two_genes() -> None:
    genome = MACRO.parse("12002112")
    for moves, n_changed, n_moves in (
        (single_moves(genome, MACRO.choices), 1, 8 * 2),
        (pair_moves(genome, MACRO.choices), 2, 28 * 4),
    ):
        assert len(np.unique(moves, axis=0)) == len(moves) == n_moves
        assert ((moves != np.array(genome)).sum(axis=1) == n_changed).all()
