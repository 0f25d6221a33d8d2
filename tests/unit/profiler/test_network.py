"""Networks: what is refused, and counting against a count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.network import Call, Network, OperatorCounts, count_operators
from profiler.operator import Operator

SHAPE = (1, 4, 4, 8)
ADD = Operator("add", SHAPE, 8)
CONV = Operator("conv2d", SHAPE, 8, epilogue=("bias", "add"))
POOL = Operator("global_avg_pool2d", SHAPE, 8)
FIRST = Call(CONV, ("input", "input"), "first", ("w", "b"))
LAST = Call(ADD, ("first", "input"), "last")
NETWORK = Network("test:two", (("input", SHAPE),), (FIRST, LAST), ("last",))


def test_a_network_knows_its_operators_in_order_and_its_weights() -> None:
    assert NETWORK.operators == (CONV, ADD)
    assert NETWORK.weight_bytes == 4 * (8 * 8 + 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"calls": (replace(FIRST, inputs=("input",)), LAST)},
            "first: conv2d takes 2 inputs, got 1",
        ),
        ({"calls": (FIRST, replace(LAST, weights=("w",)))}, "last: add takes 0 weights, got 1"),
        ({"calls": (replace(FIRST, weights=()), LAST)}, "first: conv2d takes 2 weights, got 0"),
        ({"calls": (LAST, FIRST)}, "last reads 'first' before anything makes it"),
        ({"inputs": ()}, "first reads 'input' before anything makes it"),
        (
            {"inputs": (("input", (1, 4, 4, 9)),)},
            r"first reads 'input' as float32\[1x4x4x8\], it is float32\[1x4x4x9\]",
        ),
        ({"calls": (FIRST, replace(LAST, output="first"))}, "'first' is made twice"),
        ({"calls": (FIRST, replace(LAST, output="input"))}, "'input' is made twice"),
        ({"outputs": ("last", "other")}, "output 'other' is made by no call"),
    ],
)
def test_a_network_that_cannot_be_executed_is_refused_with_the_place(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(NETWORK, **changes)


def test_operators_are_counted_in_order_of_first_appearance() -> None:
    counts = count_operators([(ADD, CONV, ADD), (), (POOL, CONV)])
    assert counts.operators == (ADD, CONV, POOL)
    np.testing.assert_array_equal(counts.counts, [[2, 1, 0], [0, 0, 0], [0, 1, 1]])


@given(st.lists(st.lists(st.sampled_from([ADD, CONV, POOL]), max_size=8), max_size=5))
def test_counts_are_those_of_each_list(networks: Sequence[Sequence[Operator]]) -> None:
    counts = count_operators(networks)
    assert counts.counts.shape == (len(networks), len(counts.operators))
    assert set(counts.operators) == {operator for network in networks for operator in network}
    for row, network in zip(counts.counts, networks, strict=True):
        for n_times, operator in zip(row, counts.operators, strict=True):
            assert n_times == list(network).count(operator)


@pytest.mark.parametrize("shape", [(2, 1), (2, 3), (2,), (1, 2, 2)])
def test_counts_that_do_not_fit_their_operators_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(n_networks, 2\), got"):
        OperatorCounts((ADD, CONV), np.zeros(shape))
