"""Orders of execution, against every order there is."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings

from profiler.network import Network
from profiler.plan_order import choose_order

from .plan_networks import FAMILIES, Writer, chain, networks, orders, width_drawer
from .test_plan import peak_bytes


@settings(deadline=None, max_examples=60)
@given(networks(most_calls=7))
def test_no_order_of_a_small_network_has_a_lower_peak(network: Network) -> None:
    order = choose_order(network)
    assert order in set(orders(network))
    lowest = min(peak_bytes(network, each, 64) for each in orders(network))
    assert peak_bytes(network, order, 64) == lowest


@settings(deadline=None, max_examples=60)
@given(networks(most_calls=7))
def test_the_given_order_stays_where_no_other_is_better(network: Network) -> None:
    identity = tuple(range(len(network.calls)))
    lowest = min(peak_bytes(network, each, 64) for each in orders(network))
    if peak_bytes(network, identity, 64) == lowest:
        assert choose_order(network) == identity


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_no_peak_is_higher_than_the_given_one(family: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = FAMILIES[family](int(rng.integers(2, 7)), width_drawer(rng))
    order = choose_order(network)
    identity = tuple(range(len(network.calls)))
    peak, given_peak = (peak_bytes(network, each, 64) for each in (order, identity))
    assert peak < given_peak or order == identity


def test_independent_towers_run_one_after_the_other() -> None:
    """Ten towers side by side, written layer by layer: far too many sets of calls for all."""
    net = Writer(16)
    ends = [net.dense("i0", 1000) for _ in range(10)]
    for _ in range(9):
        ends = [net.dense(end, 1000) for end in ends]
    network = net.network(net.join(*(net.dense(end, 16) for end in ends)))
    order = choose_order(network)
    # Two tensors of a tower at a time; its result and the sum so far are small.
    assert peak_bytes(network, order, 64) <= 2 * 4032 + 64 + 11 * 64
    assert peak_bytes(network, order, 64) < peak_bytes(network, range(len(order)), 64) / 4


def test_parts_that_do_not_decide_keep_their_order() -> None:
    net = Writer(16)
    # First branches that gain from another order but stay far below the peak, then the peak.
    small = [net.dense("i0", 100) for _ in range(3)]
    middle = net.join(*(net.dense(each, 16) for each in small))
    network = net.network(net.dense(net.dense(middle, 9000), 16))
    assert choose_order(network) == tuple(range(len(network.calls)))


def test_chains_of_any_length_are_left_alone_at_once() -> None:
    network = chain(*[64] * 1001)
    started_s = time.perf_counter()
    assert choose_order(network) == tuple(range(1000))
    assert time.perf_counter() - started_s < 5.0


def test_a_call_that_leaves_no_more_than_it_found_still_waits_for_room() -> None:
    net = Writer(16)
    x = net.dense("i0", 160)
    wide = net.dense(x, 1600)
    moved = net.dense(x, 160)  # frees x, but needs 640 bytes more while it runs
    narrow = net.dense(wide, 16)
    network = net.network(net.add(net.dense(moved, 16), narrow))
    assert choose_order(network)[:4] == (0, 1, 3, 2)
    assert peak_bytes(network, choose_order(network)) == 64 + 640 + 6400 + 64
