"""Memory of subnets and searches within it, against the planner itself."""

from __future__ import annotations

import re

import numpy as np
import pytest

from profiler.plan import plan_arena
from searchspace.accuracy import TableAccuracy, load_accuracy
from searchspace.constraint import LatencyLimit, MemoryLimit
from searchspace.genes import Genome, as_genomes
from searchspace.search.evolution import EvolutionSettings
from searchspace.search.result import InfeasibleLimitError, InfeasibleMemoryError
from searchspace.search.search import SearchOptions, search
from searchspace.space import SearchSpace, load_space

from .toy_latency import ToyLatency

MACRO, OFA = load_space("nas_bench_macro"), load_space("ofa_mbv3")
LATENCY = ToyLatency()
ANY_LATENCY = LatencyLimit(1e9)
SMALL = EvolutionSettings(
    n_restarts=1, n_population=30, n_generations=6, n_climbs=1, n_kicks=2, n_pair_moves=200
)


def planned_bytes(space: SearchSpace, genome: Genome) -> int:
    return plan_arena(space.lower(genome)).arena_bytes


@pytest.fixture(scope="module")
def macro_accuracy() -> TableAccuracy:
    source = load_accuracy(MACRO)
    assert isinstance(source, TableAccuracy)
    return source


@pytest.mark.parametrize("space", [MACRO, OFA], ids=lambda space: space.name)
def test_the_peak_of_many_subnets_is_what_the_planner_allocates(space: SearchSpace) -> None:
    rng = np.random.default_rng(5)
    genomes = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(40))]
    peaks = space.peak_activation_bytes(as_genomes(genomes))
    assert peaks.tolist() == [planned_bytes(space, genome) for genome in genomes]
    assert len(set(peaks.tolist())) >= 3


def test_an_exhaustive_search_within_memory_is_brute_force(macro_accuracy: TableAccuracy) -> None:
    genomes = macro_accuracy.genomes
    peaks = MACRO.peak_activation_bytes(genomes)
    accuracy = macro_accuracy.accuracy_percent(genomes)
    for n_bytes in np.unique(peaks)[:-1]:
        options = SearchOptions(memory=MemoryLimit(int(n_bytes)))
        rng = np.random.default_rng(0)
        found = search(MACRO, LATENCY, macro_accuracy, ANY_LATENCY, rng, options)
        assert found.best.accuracy_percent == accuracy[peaks <= n_bytes].max()
        assert all(c.peak_activation_bytes <= n_bytes for c in (*found.candidates, *found.front))
        assert found.best.peak_activation_bytes == planned_bytes(MACRO, found.best.genome)


def test_evolution_stays_within_memory() -> None:
    accuracy = load_accuracy(OFA)
    low, high = OFA.peak_activation_bytes(as_genomes([OFA.smallest(), OFA.largest()]))
    memory = MemoryLimit(int(low + (high - low) // 3))
    options = SearchOptions(memory=memory, evolution=SMALL)
    found = search(OFA, LATENCY, accuracy, ANY_LATENCY, np.random.default_rng(0), options)
    for candidate in found.candidates:
        assert planned_bytes(OFA, candidate.genome) <= memory.limit_bytes


def test_memory_that_no_subnet_fits_ends_the_search_with_the_smallest(
    macro_accuracy: TableAccuracy,
) -> None:
    least = int(MACRO.peak_activation_bytes(macro_accuracy.genomes).min())
    options = SearchOptions(memory=MemoryLimit(least - 1))
    rng = np.random.default_rng(0)
    with pytest.raises(InfeasibleMemoryError) as caught:
        search(MACRO, LATENCY, macro_accuracy, ANY_LATENCY, rng, options)
    smallest = caught.value.smallest
    assert smallest.peak_activation_bytes == least == planned_bytes(MACRO, smallest.genome)
    assert re.search(
        rf"at most [\d.]+ kB; the smallest takes [\d.]+ kB: {smallest.text}$", str(caught.value)
    )


def test_memory_that_no_subnet_fits_is_refused_before_any_evolution() -> None:
    shares: list[object] = []
    options = SearchOptions(memory=MemoryLimit(1000), on_progress=shares.append)
    accuracy = load_accuracy(OFA)
    with pytest.raises(InfeasibleMemoryError) as caught:
        search(OFA, LATENCY, accuracy, ANY_LATENCY, np.random.default_rng(0), options)
    assert not shares
    (least,) = OFA.peak_activation_bytes(as_genomes([OFA.smallest()]))
    assert caught.value.smallest.peak_activation_bytes <= least


def test_the_fastest_subnet_that_is_named_fits_the_memory(macro_accuracy: TableAccuracy) -> None:
    peaks = MACRO.peak_activation_bytes(macro_accuracy.genomes)
    memory = MemoryLimit(int(np.median(peaks)))
    limit = LatencyLimit(0.001)
    rng = np.random.default_rng(0)
    with pytest.raises(InfeasibleLimitError, match=r"the fastest in [\d.]+ kB is") as caught:
        search(MACRO, LATENCY, macro_accuracy, limit, rng, SearchOptions(memory=memory))
    assert caught.value.fastest.peak_activation_bytes <= memory.limit_bytes


def test_a_hundred_thousand_subnets_are_looked_up_not_planned() -> None:
    rng = np.random.default_rng(1)
    genomes = np.repeat(as_genomes([OFA.sample(rng) for _ in range(100)]), 1000, axis=0)
    peaks = OFA.peak_activation_bytes(genomes)
    assert peaks.shape == (100_000,)
    assert peaks.reshape(100, 1000).std(axis=1).max() == 0
