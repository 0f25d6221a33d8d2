from __future__ import annotations

import pytest

from profiler.pairs import split_pairs
from searchspace.space import load_space
from searchspace.spaces.layered import LayeredSpace
from searchspace.spaces.modules import build_module

from .fused_graph import compiled_signatures, rule_signatures

# torch 2.13's own export code copies tree specifications in a way that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


@pytest.mark.parametrize(
    ("space_name", "text"),
    [
        ("nas_bench_macro", "01210020"),
        ("nas_bench_macro", "12002112"),
        ("ofa_mbv3", "3356-747433-3656-5633-767433"),
        ("ofa_mbv3", "3333-3374-333456-743333-3356"),
    ],
)
def test_rule_and_compiled_graph_have_the_same_operators(space_name: str, text: str) -> None:
    space = load_space(space_name)
    assert isinstance(space, LayeredSpace)
    genome = space.parse(text)
    compiled = compiled_signatures(build_module(space.layers(genome)), space.input_shape)
    network = split_pairs(space.lower(genome))  # TVM fuses no two convolutions
    rule = rule_signatures(network.operators)
    assert compiled - rule == rule - compiled
    assert sum(rule.values()) == len(network.calls)
