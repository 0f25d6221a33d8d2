"""When bytes must stay, and which outputs may take the places of inputs."""

from __future__ import annotations

import pytest

from profiler.generic import GenericBody, LoopTraits, TensorType, parse_generic
from profiler.network import Call, Network
from profiler.operator import Operator, generic_operator
from profiler.plan_lifetimes import Lifetime, find_lifetimes, live_bytes

from .plan_networks import Writer

IMAGE = (1, 4, 4, 8)


@pytest.mark.parametrize(
    ("operator", "positions"),
    [
        (Operator("add", IMAGE, 8, epilogue=("relu",)), (0, 1)),
        (Operator("scale", IMAGE, 8), (0,)),
        (Operator("scale", IMAGE, 8, epilogue=("add",)), (0, 2)),
        (Operator("conv2d", IMAGE, 8, epilogue=("bias", "add")), (1,)),
        (Operator("depthwise_conv2d", IMAGE, 8, epilogue=("add", "relu")), (1,)),
        (Operator("dense", (1, 1, 1, 8), 8, epilogue=("add",)), (1,)),
        (Operator("conv2d", IMAGE, 8, epilogue=("bias", "relu")), ()),
        (Operator("max_pool2d", IMAGE, 8), ()),
    ],
    ids=lambda value: value.key if isinstance(value, Operator) else None,
)
def test_an_output_may_take_the_place_of_what_is_read_number_by_number(
    operator: Operator, positions: tuple[int, ...]
) -> None:
    assert operator.in_place_inputs == positions


@pytest.mark.parametrize("traits", [None, LoopTraits(8, 0, 1, 8, 1)])
@pytest.mark.parametrize("places", [(), (1,), (0, 2)])
def test_a_generic_key_keeps_what_may_be_overwritten(
    places: tuple[int, ...], traits: LoopTraits | None
) -> None:
    types = (TensorType((8,)),) * 3
    body = GenericBody("multiply", types, (), types[:1], 8, "a" * 64, traits, places)
    assert parse_generic(body.key) == body
    assert generic_operator(body).in_place_inputs == places


def test_a_chain_of_additions_is_one_piece_of_memory() -> None:
    net = Writer(4, 4)
    first = net.add("i0", "i1")  # the network's inputs stay
    second = net.add(first, "i1")
    third = net.add("i0", second)
    lifetimes = find_lifetimes(net.network(third))
    assert lifetimes == (
        Lifetime(("i0",), 16, 0, 2),
        Lifetime(("i1",), 16, 0, 2),
        Lifetime((first, second, third), 16, 0, 2),
    )
    assert live_bytes(lifetimes) == [48, 48, 48]
    apart = find_lifetimes(net.network(third), in_place=False)
    assert live_bytes(apart) == [48, 64, 64]


def test_an_output_of_the_network_is_not_overwritten() -> None:
    net = Writer(4)
    first = net.dense("i0", 4)
    second = net.add(first, "i0")
    lifetimes = find_lifetimes(net.network(first, second))
    assert [lifetime.names for lifetime in lifetimes] == [("i0",), (first,), (second,)]


def test_the_inputs_of_a_part_die_like_other_tensors() -> None:
    net = Writer(4)
    first = net.dense("i0", 4)
    last = net.dense(net.add(first, "i0"), 8)
    network = net.network(last)
    assert live_bytes(find_lifetimes(network)) == [32, 32, 64]
    assert live_bytes(find_lifetimes(network, keeps_inputs=False)) == [32, 32, 48]


def test_an_unread_tensor_is_live_during_its_call_alone() -> None:
    net = Writer(4)
    net.dense("i0", 100)
    network = net.network(net.dense("i0", 4))
    assert live_bytes(find_lifetimes(network)) == [416, 32]


def test_of_several_outputs_none_takes_a_place() -> None:
    types = (TensorType((8,)),)
    body = GenericBody("split", types, (), types * 2, 8, "b" * 64, None, (0,))
    scale = Operator("add", (1, 1, 1, 8), 8)
    calls = (
        Call(scale, ("x", "x"), "a"),
        Call(generic_operator(body), ("a",), "b", (), ("c",)),
        Call(scale, ("b", "c"), "d"),
    )
    network = Network("test:split", (("x", (1, 1, 1, 8)),), calls, ("d",))
    names = [lifetime.names for lifetime in find_lifetimes(network)]
    assert names == [("x",), ("a",), ("b", "d"), ("c",)]
