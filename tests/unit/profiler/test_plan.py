"""Laws of arena plans, against runs in which every piece of the arena remembers whose it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.network import Call, Network
from profiler.operator import Operator
from profiler.plan import ArenaPlan, PlanMode, in_order, plan_arena

from .plan_networks import (
    FAMILIES,
    Writer,
    chain,
    least_arena,
    networks,
    orders,
    width_drawer,
)


def sizes_of(network: Network, alignment: int = 1) -> dict[str, int]:
    sizes = {name: kind.n_bytes for name, kind in network.types.items()}
    return {name: -(-size // alignment) * alignment for name, size in sizes.items()}


def may_take_the_place(call: Call, name: str) -> bool:
    """Whether a call's output may lie where one of its inputs lies: the rule, written anew."""
    operator = call.operator
    allowed = {"add": (0, 1), "scale": (0,)}.get(operator.kind, ())
    if "add" in operator.epilogue:
        allowed = (*allowed, len(call.inputs) - 1)
    if operator.body is not None:  # what its loops prove
        allowed = operator.body.in_place
    return all(i in allowed for i, read in enumerate(call.inputs) if read == name)


def needed_after(network: Network, order: Sequence[int], step: int) -> set[str]:
    """Tensors that must be whole when a call has run."""
    calls = [network.calls[i] for i in order]
    made = {name for call in calls[: step + 1] for name in call.outputs}
    made |= {name for name, _ in network.inputs}
    read_later = {name for call in calls[step + 1 :] for name in call.inputs}
    kept = {name for name, _ in network.inputs} | set(network.outputs)
    return made & (read_later | kept)


def peak_bytes(network: Network, order: Sequence[int], alignment: int = 1) -> int:
    """Most bytes live at one call, from the meaning of a run."""
    sizes = sizes_of(network, alignment)
    peak = sum(sizes[name] for name, _ in network.inputs)
    for step, i in enumerate(order):
        call = network.calls[i]
        before = needed_after(network, order, step - 1) if step else {n for n, _ in network.inputs}
        after = needed_after(network, order, step)
        live = before | {call.output}
        shared = any(
            name not in after
            and sizes_of(network)[name] == sizes_of(network)[call.output]
            and may_take_the_place(call, name)
            for name in call.inputs
        )
        total = sum(sizes[name] for name in live) - shared * sizes[call.output]
        peak = max(peak, total)
    return peak


def assert_is_valid(network: Network, plan: ArenaPlan, alignment: int = 64) -> None:
    """Run twice over an arena whose aligned pieces know their owners."""
    sizes = sizes_of(network)
    assert sorted(plan.order) == list(range(len(network.calls)))
    assert set(plan.offsets) == set(sizes)
    assert plan.arena_bytes % alignment == 0
    assert all(offset % alignment == 0 for offset in plan.offsets.values())
    assert all(plan.offsets[name] + sizes[name] <= plan.arena_bytes for name in sizes)
    numbers = {name: number for number, name in enumerate(sizes)}
    owner = np.full(plan.arena_bytes // alignment, -1)
    places = {
        name: slice(plan.offsets[name] // alignment, -(-(plan.offsets[name] + n) // alignment))
        for name, n in sizes.items()
    }

    def is_whole(name: str) -> bool:
        return bool(np.all(owner[places[name]] == numbers[name]))

    for name, _ in network.inputs:
        owner[places[name]] = numbers[name]
    for step, i in (*enumerate(plan.order), *enumerate(plan.order)):
        call = network.calls[i]
        assert all(is_whole(name) for name in call.inputs)
        for name in call.outputs:
            owner[places[name]] = numbers[name]
        for name in call.inputs:
            if not is_whole(name):
                assert places[name] == places[call.output], "overwritten while it is read"
                assert may_take_the_place(call, name)
        for name in needed_after(network, plan.order, step):
            assert is_whole(name), f"{name} is lost"


@settings(deadline=None, max_examples=60)
@given(networks(), st.sampled_from([1, 16, 64, 4096]))
def test_no_tensor_is_overwritten_that_somebody_still_needs(
    network: Network, alignment: int
) -> None:
    assert_is_valid(network, plan_arena(network, alignment), alignment)


@settings(deadline=None, max_examples=60)
@given(networks())
def test_the_peak_is_what_is_live_at_the_worst_call(network: Network) -> None:
    plan = plan_arena(network)
    assert plan.peak_live_bytes <= plan.arena_bytes
    padded = peak_bytes(network, plan.order, 64)
    assert padded <= plan.arena_bytes <= sum(sizes_of(network, 64).values())
    if plan.arena_bytes == padded:  # outputs took the places of inputs wherever they may
        assert plan.peak_live_bytes == peak_bytes(network, plan.order)
        assert plan.is_optimal


@settings(deadline=None, max_examples=40)
@given(networks())
def test_another_order_is_taken_only_where_it_needs_less(network: Network) -> None:
    plan = plan_arena(network)
    given_order = tuple(range(len(network.calls)))
    given_bytes = peak_bytes(network, given_order, 64)
    assert plan.order == given_order or peak_bytes(network, plan.order, 64) < given_bytes
    # What was chosen is not improved upon by choosing again.
    assert plan_arena(in_order(network, plan.order)).arena_bytes == plan.arena_bytes


@settings(deadline=None, max_examples=25)
@given(networks(most_calls=5, most_width=120))
def test_the_optimal_plan_of_a_tiny_network_is_that_of_brute_force(network: Network) -> None:
    plan = plan_arena(network, mode="optimal")
    assert_is_valid(network, plan)
    assert plan.is_optimal
    sizes = sizes_of(network, 64)
    groups = merged(network, plan)
    live = []
    for step, i in enumerate(plan.order):
        names = needed_after(network, plan.order, step) | {network.calls[i].output}
        live.append({groups[name] for name in names | set(network.calls[i].inputs)})
    weights = [
        max(sizes[n] for n in groups if groups[n] == g) for g in range(len(set(groups.values())))
    ]
    assert plan.arena_bytes == least_arena(weights, live)


def merged(network: Network, plan: ArenaPlan) -> dict[str, int]:
    """Numbers of places: a tensor made in place of another has that one's number."""
    groups: dict[str, int] = {name: i for i, (name, _) in enumerate(network.inputs)}
    for step, i in enumerate(plan.order):
        call = network.calls[i]
        after = needed_after(network, plan.order, step)
        taken = [
            name
            for name in call.inputs
            if name not in after
            and plan.offsets[name] == plan.offsets[call.output]
            and may_take_the_place(call, name)
        ]
        groups[call.output] = groups[taken[0]] if taken else len(set(groups.values()))
    return groups


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(4))
def test_greedy_plans_of_real_shapes_are_valid_and_near_the_peak(family: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = FAMILIES[family](int(rng.integers(2, 9)), width_drawer(rng))
    plan = plan_arena(network)
    assert_is_valid(network, plan)
    assert plan.arena_bytes <= 1.02 * peak_bytes(network, plan.order, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_optimal_plan_is_the_peak_or_proved(family: str) -> None:
    rng = np.random.default_rng(7)
    network = FAMILIES[family](6, width_drawer(rng))
    plan = plan_arena(network, mode="optimal")
    assert_is_valid(network, plan)
    assert plan.is_optimal
    assert plan.arena_bytes <= plan_arena(network).arena_bytes


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=2, max_size=30))
def test_a_chain_keeps_its_order_and_needs_its_worst_call_alone(widths: list[int]) -> None:
    network = chain(*widths)
    plan = plan_arena(network)
    assert plan.order == tuple(range(len(network.calls)))
    assert plan.arena_bytes == peak_bytes(network, plan.order, 64)


def test_a_chain_of_equal_tensors_needs_exactly_its_worst_call() -> None:
    # The input stays, two tensors take turns.
    plan = plan_arena(chain(*[160] * 12))
    assert (plan.arena_bytes, plan.peak_live_bytes, plan.is_optimal) == (1920, 1920, True)


def test_a_hand_worked_chain_reuses_the_bytes_of_dead_tensors() -> None:
    # bytes: input 64, t1 1024, t2 256, t3 512, t4 64; live: 1088, 1344, 832, 640 -> 1344
    plan = plan_arena(chain(16, 256, 64, 128, 16))
    assert plan.peak_live_bytes == 1344
    assert plan.arena_bytes == 1344
    assert plan.offsets["t3"] == plan.offsets["t1"]


def test_an_addition_is_done_in_place_of_what_nobody_reads_after() -> None:
    net = Writer(16)
    a, b = net.dense("i0", 160), net.dense("i0", 160)
    total = net.add(a, b)
    network = net.network(net.dense(total, 16))
    plan = plan_arena(network)
    assert plan.offsets[total] in {plan.offsets[a], plan.offsets[b]}
    assert plan.peak_live_bytes == plan.arena_bytes == 64 + 2 * 640


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda net, a, b: net.join(net.add(a, b), a, b), id="read again later"),
        pytest.param(lambda net, a, _: net.dense_add(a, a), id="read by the layer itself"),
        pytest.param(lambda net, *_: net.add("i0", "i0"), id="an input of the network"),
        pytest.param(lambda net, a, _: net.scale(a, a), id="a factor of all pixels"),
    ],
)
def test_what_is_needed_otherwise_keeps_its_place(build) -> None:  # type: ignore[no-untyped-def]
    net = Writer(160)
    a, b = net.dense("i0", 160), net.dense("i0", 160)
    net.dense(build(net, a, b), 16)
    network = net.network(f"t{len(net.calls) - 1}", b)
    plan = plan_arena(network)
    assert_is_valid(network, plan)
    call = network.calls[2]
    assert all(plan.offsets[name] != plan.offsets[call.output] for name in call.inputs)


def test_branches_run_one_after_the_other_rather_than_side_by_side() -> None:
    net = Writer(16)
    stem = net.dense("i0", 16)
    wide = [net.dense(stem, 1600) for _ in range(3)]
    network = net.network(net.join(*(net.dense(each, 16) for each in wide)))
    plan = plan_arena(network)
    given_order = tuple(range(len(network.calls)))
    assert peak_bytes(network, given_order) == 2 * 64 + 3 * 6400
    # One wide tensor at a time; beside it the input, the stem and one or two small results.
    assert plan.arena_bytes == min(peak_bytes(network, order) for order in orders(network))
    assert plan.arena_bytes < 2 * 6400
    assert_is_valid(network, plan)


@settings(deadline=None, max_examples=30)
@given(networks())
def test_planning_is_deterministic(network: Network) -> None:
    assert plan_arena(network) == plan_arena(network)


def test_a_network_without_calls_still_places_its_inputs() -> None:
    plan = plan_arena(Network("test:empty", (("a", (1, 1, 1, 3)), ("b", (1, 1, 1, 5))), (), ("a",)))
    assert sorted(plan.offsets.values()) == [0, 64]
    assert plan.arena_bytes == 128


@pytest.mark.parametrize("alignment", [0, -64, 48])
def test_an_alignment_that_is_no_power_of_two_is_refused(alignment: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        plan_arena(chain(1, 1), alignment)


def test_an_unknown_mode_is_refused() -> None:
    mode: PlanMode = "perfect"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="greedy, optimal, got 'perfect'"):
        plan_arena(chain(1, 1), mode=mode)


def test_a_convolution_adds_in_place_of_its_shortcut() -> None:
    pointwise = Operator("conv2d", (1, 8, 8, 16), 16)
    project = Operator("conv2d", (1, 8, 8, 16), 16, epilogue=("add", "relu"))
    calls = (
        Call(pointwise, ("x",), "a", ("w0",)),
        Call(pointwise, ("a",), "b", ("w1",)),
        Call(project, ("b", "a"), "c", ("w2",)),
        Call(pointwise, ("c",), "d", ("w3",)),
    )
    network = Network("test:shortcut", (("x", (1, 8, 8, 16)),), calls, ("d",))
    plan = plan_arena(network)
    assert plan.offsets["c"] == plan.offsets["a"]
    assert plan.peak_live_bytes == 3 * 4096
    assert_is_valid(network, plan)
