"""Which calls are joined to separable convolutions, and that joining changes no number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler.network import Network
from profiler.operator import Operator
from profiler.pairs import join_pairs, split_pairs
from tests.unit.searchspace.network_interpreter import interpret

from .examples import network_inputs, network_weights
from .networks import NETWORKS, RESIDUAL, SQUEEZE_EXCITE, call

IMAGE = (1, 6, 6, 8)
DEPTHWISE = Operator(
    "depthwise_conv2d", IMAGE, 8, (3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "relu")
)
POINTWISE = Operator("conv2d", IMAGE, 12, epilogue=("bias",))
PAIR = Network(
    "test:pair",
    (("x", IMAGE),),
    (call("first", DEPTHWISE, "x"), call("second", POINTWISE, "first")),
    ("second",),
)


def kinds(network: Network) -> list[str]:
    return [operator.kind for operator in network.operators]


def test_a_pair_becomes_one_call_with_the_weights_of_both() -> None:
    (joined,) = join_pairs(PAIR).calls
    assert joined.operator.depthwise == DEPTHWISE
    assert joined.operator.pointwise == POINTWISE
    assert (joined.inputs, joined.output) == (("x",), "second")
    assert joined.weights == ("first.weight", "first.bias", "second.weight", "second.bias")


def test_a_residual_stays_an_input() -> None:
    joined = {c.output: c for c in join_pairs(RESIDUAL).calls}
    assert "depthwise" not in joined
    assert joined["project"].operator.kind == "separable_conv2d"
    assert joined["project"].inputs == ("expand", "stem")


def with_second(operator: Operator, *more: str) -> Network:
    return replace(PAIR, calls=(PAIR.calls[0], call("second", operator, "first", *more)))


@pytest.mark.parametrize(
    "network",
    [
        replace(PAIR, outputs=("first", "second")),
        replace(PAIR, calls=(*PAIR.calls, call("third", POINTWISE, "first"))),
        with_second(replace(POINTWISE, out_channels=8, epilogue=("add",)), "first"),
        with_second(replace(POINTWISE, stride=(2, 2))),
        with_second(replace(POINTWISE, groups=4)),
        with_second(replace(POINTWISE, kernel=(3, 3))),
        with_second(replace(POINTWISE, input_shape=(1, 3, 12, 8))),
        replace(
            PAIR,
            calls=(
                call("first", replace(DEPTHWISE, epilogue=("add",)), "x", "x"),
                PAIR.calls[1],
            ),
        ),
        SQUEEZE_EXCITE,
    ],
)
def test_what_is_read_elsewhere_or_no_plain_product_stays_apart(network: Network) -> None:
    assert join_pairs(network) == network


@pytest.mark.parametrize("network", [PAIR, *NETWORKS], ids=lambda network: network.name)
def test_joined_and_split_networks_compute_the_same(network: Network) -> None:
    rng = np.random.default_rng(2)
    joined, split = join_pairs(network), split_pairs(network)
    assert "separable_conv2d" not in kinds(split)
    assert join_pairs(split) == joined
    inputs, weights = network_inputs(network, rng), network_weights(network, rng)
    expected = interpret(split, weights, inputs)
    for name, array in interpret(joined, weights, inputs).items():
        np.testing.assert_array_equal(array, expected[name])
