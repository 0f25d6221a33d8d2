from __future__ import annotations

import math

import numpy as np
import pytest

from searchspace.design import Design, choose_design
from searchspace.space import load_space

from ...pipeline.tiny_space import TINY

MACRO = load_space("nas_bench_macro")
SHARES = (0.4, 0.6, 0.8, 1.0)
every_share = pytest.mark.parametrize("share", SHARES)


def choose(share: float, n_networks: int = 60, seed: int = 0) -> Design:
    return choose_design(MACRO, n_networks, share, np.random.default_rng(seed))


@every_share
def test_at_least_the_share_of_the_operators_is_chosen(share: float) -> None:
    operators = choose(share).operators
    assert len(operators) >= share * len(MACRO.operators())
    assert len(set(operators)) == len(operators)
    assert set(operators) <= set(MACRO.operators())


def test_a_smaller_share_chooses_fewer_operators() -> None:
    numbers = [len(choose(share).operators) for share in SHARES]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1] == len(MACRO.operators())


@pytest.mark.parametrize("share", [0.4, 0.75])
def test_networks_hold_only_chosen_operators(share: float) -> None:
    # In this space an operator depends on several genes: mixing two subnets may bring a new one.
    space = load_space("ofa_mbv3")
    design = choose_design(space, 30, share, np.random.default_rng(0))
    chosen = set(design.operators)
    assert len(chosen) < len(space.operators())
    for genome in design.genomes:
        assert set(space.lower(genome).operators) <= chosen


@every_share
def test_every_chosen_operator_is_in_a_network(share: float) -> None:
    design = choose(share)
    seen = {op for genome in design.genomes for op in MACRO.lower(genome).operators}
    assert seen == set(design.operators)


@every_share
def test_networks_are_distinct_canonical_and_as_many_as_asked(share: float) -> None:
    genomes = choose(share, n_networks=25).genomes
    assert len(set(genomes)) == len(genomes) == 25
    assert all(MACRO.canonical(genome) == genome for genome in genomes)


def test_a_few_networks_hold_each_operator_sooner_than_random_ones_would() -> None:
    # Eight slots of three choices: three networks can hold them all, eight at random seldom do.
    design = choose(1.0, n_networks=8)
    seen = {op for genome in design.genomes for op in MACRO.lower(genome).operators}
    assert seen == set(MACRO.operators())


def test_asking_for_more_networks_than_there_are_gives_each_once() -> None:
    design = choose_design(TINY, 200, 1.0, np.random.default_rng(0))
    assert len(set(design.genomes)) == len(design.genomes) == TINY.n_subnets


@every_share
def test_a_seed_chooses_the_same_design_again_and_another_seed_another(share: float) -> None:
    assert choose(share, 20, seed=3) == choose(share, 20, seed=3)
    assert choose(share, 20, seed=3).genomes != choose(share, 20, seed=4).genomes


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, math.nan])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got"):
        choose(share)


@pytest.mark.parametrize("n_networks", [0, -1])
def test_no_networks_are_refused(n_networks: int) -> None:
    with pytest.raises(ValueError, match=f"n_networks must be >= 1, got {n_networks}"):
        choose(1.0, n_networks)
