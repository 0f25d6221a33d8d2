from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.operator import Operator
from searchspace.genes import all_genomes, as_genomes, sample_genes
from searchspace.space import SearchSpace, UnknownSpaceError, load_space, parse_subnet
from searchspace.spaces.layered import LayeredSpace
from searchspace.spaces.layers import make_divisible
from searchspace.spaces.modules import build_module

SPACES = [load_space("nas_bench_macro"), load_space("ofa_mbv3")]
FOLDERS = {"nas_bench_macro": "nas_bench_macro", "ofa_mbv3": "ofa_mbv3_accuracy"}
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
seeds = st.integers(0, 2**32 - 1)


def shipped_rows(space: SearchSpace) -> list[dict[str, str]]:
    resource = files("latloop_data") / FOLDERS[space.name] / "accuracy.csv.gz"
    return list(csv.DictReader(io.StringIO(gzip.decompress(resource.read_bytes()).decode())))


def is_in(genome: tuple[int, ...], space: SearchSpace) -> bool:
    return len(genome) == space.n_genes and all(
        value in values for value, values in zip(genome, space.choices, strict=True)
    )


def raw_genome(space: SearchSpace, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(rng.choice(values)) for values in space.choices)


@every_space
@given(seed=seeds, probability=st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_moves_stay_in_the_space_and_are_canonical(
    space: SearchSpace, seed: int, probability: float
) -> None:
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng), raw_genome(space, rng)
    for genome in (a, space.mutate(b, rng, probability), space.crossover(a, b, rng)):
        assert is_in(genome, space)
        assert space.canonical(genome) == genome


@every_space
@given(seed=seeds)
@settings(deadline=None, max_examples=50)
def test_canonical_form_is_idempotent_and_survives_text(space: SearchSpace, seed: int) -> None:
    genome = raw_genome(space, np.random.default_rng(seed))
    canonical = space.canonical(genome)
    assert space.canonical(canonical) == canonical
    assert space.parse(space.format(genome)) == canonical
    assert space.format(canonical) == space.format(genome)
    assert space.lower(genome) == space.lower(canonical)
    assert space.lower(genome).name == f"{space.name}:{space.format(genome)}"


@every_space
@given(seed=seeds)
@settings(deadline=None, max_examples=25)
def test_counts_are_those_of_the_lowered_networks(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    genomes = [raw_genome(space, rng) for _ in range(4)]
    counts = space.counts(as_genomes(genomes))
    assert counts.operators is space.operators()
    for row, genome in zip(counts.counts, genomes, strict=True):
        held = {o: int(n) for o, n in zip(counts.operators, row, strict=True) if n}
        assert held == Counter(space.lower(genome).operators)


@every_space
def test_mutation_changes_all_with_probability_one_and_nothing_with_zero(
    space: SearchSpace,
) -> None:
    rng = np.random.default_rng(0)
    genome = space.largest()
    mutant = space.mutate(genome, rng, 1.0)
    assert mutant != genome
    assert space.mutate(genome, rng, 0.0) == genome


def n_parameters(operator: Operator) -> int:
    """As the papers count: a batch-norm has two numbers a channel, of which folding leaves one."""
    n_weights = sum(int(np.prod(shape)) for shape in operator.weight_shapes)
    if operator.kind == "separable_conv2d":
        return n_parameters(operator.depthwise) + n_parameters(operator.pointwise)
    has_norm = operator.kind in {"conv2d", "depthwise_conv2d"}
    return n_weights + (operator.out_channels if has_norm else 0)


@every_space
def test_every_published_row_has_its_macs_and_parameters(space: SearchSpace) -> None:
    rows = shipped_rows(space)
    counts = space.counts(as_genomes([space.parse(row["genome"]) for row in rows]))
    n_macs = counts.counts @ np.array([float(o.n_macs) for o in counts.operators])
    n_params = counts.counts @ np.array([float(n_parameters(o)) for o in counts.operators])
    assert np.array_equal(n_macs, [float(row["n_macs"]) for row in rows])
    assert np.array_equal(n_params, [float(row["n_parameters"]) for row in rows])


@every_space
def test_modules_have_the_published_number_of_parameters(space: SearchSpace) -> None:
    assert isinstance(space, LayeredSpace)
    for row in shipped_rows(space)[::700]:
        module = build_module(space.layers(space.parse(row["genome"])))
        assert sum(p.numel() for p in module.parameters()) == int(row["n_parameters"])


@every_space
def test_extremes_bound_the_macs_of_samples(space: SearchSpace) -> None:
    rng = np.random.default_rng(3)
    genomes = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(200))]
    counts = space.counts(as_genomes(genomes))
    n_macs = counts.counts @ np.array([float(o.n_macs) for o in counts.operators])
    assert n_macs[0] == n_macs.min()
    assert n_macs[1] == n_macs.max()


@every_space
def test_operators_are_distinct_and_each_is_held_by_some_subnet(space: SearchSpace) -> None:
    rng = np.random.default_rng(4)
    genomes = sample_genes(space.choices, rng, 3000)
    held = space.counts(genomes).counts.sum(axis=0)
    assert len(set(space.operators())) == len(space.operators())
    assert (held > 0).all()


def test_n_subnets_of_nas_bench_macro_is_the_number_of_canonical_genomes() -> None:
    space = SPACES[0]
    canonical = space.canonical_many(all_genomes(space.choices))
    assert len(np.unique(canonical, axis=0)) == space.n_subnets == 3969
    assert len(shipped_rows(space)) == len(canonical) == 6561


def test_genomes_of_one_network_have_the_same_published_accuracies() -> None:
    space = SPACES[0]
    rows = {row["genome"]: row for row in shipped_rows(space)}
    for text, row in rows.items():
        canonical = rows[space.format(space.parse(text))]
        assert {**row, "genome": ""} == {**canonical, "genome": ""}


@pytest.mark.parametrize(("value", "rounded"), [(48, 48), (18, 24), (12, 16), (60, 64), (96, 96)])
def test_make_divisible_rounds_to_eights_and_never_far_down(value: float, rounded: int) -> None:
    assert make_divisible(value) == rounded


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (SPACES[0], "2221222"),
        (SPACES[0], "22212223"),
        (SPACES[0], "\u0660" * 8),
        (SPACES[1], "3333-3333-3333-3333"),
        (SPACES[1], "3333-3333-3333-3333-33"),
        (SPACES[1], "3335-3333-3333-3333-3333"),
        (SPACES[1], "3333-3333-3333-3333-3333333333"),
    ],
)
def test_malformed_genome_is_refused_with_text_and_rule(space: SearchSpace, text: str) -> None:
    with pytest.raises(ValueError, match=f"a genome of {space.name} is .*, got ") as caught:
        space.parse(text)
    assert repr(text) in str(caught.value)


def test_genome_with_a_wrong_gene_is_refused() -> None:
    with pytest.raises(ValueError, match="gene 2 of nas_bench_macro must be one of"):
        SPACES[0].lower((0, 0, 3, 0, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="has 8 genes, got 1"):
        SPACES[0].canonical((0,))


@pytest.mark.parametrize(
    "name", ["nope", "nope:x", "searchspace.space:NOPE", "searchspace.space:BUILT_IN", ":", "math:"]
)
def test_unknown_space_is_refused_and_known_ones_are_named(name: str) -> None:
    with pytest.raises(UnknownSpaceError, match="nas_bench_macro, ofa_mbv3"):
        load_space(name)


def test_space_is_found_as_module_and_object() -> None:
    assert load_space("searchspace.spaces.ofa_mbv3:OFA_MBV3") is SPACES[1]
    path = "searchspace.spaces.nas_bench_macro:NAS_BENCH_MACRO:00000000"
    assert parse_subnet(path) == (SPACES[0], (0,) * 8)
    with pytest.raises(ValueError, match="SPACE:GENOME"):
        parse_subnet("00000000")
