from __future__ import annotations

import numpy as np
import pytest
import torch

from searchspace.space import load_space
from searchspace.spaces.images import example_inputs

from .network_interpreter import run_network

SUBNETS = [
    ("nas_bench_macro", "12002112"),
    ("nas_bench_macro", "00000000"),
    ("ofa_mbv3", "3356-747433-36567456-5633-767433"),
]


@pytest.mark.parametrize(("space_name", "text"), SUBNETS)
def test_network_with_folded_weights_computes_what_the_module_computes(
    space_name: str, text: str
) -> None:
    space = load_space(space_name)
    genome = space.parse(text)
    rng = np.random.default_rng(5)
    module = space.module(genome, rng)
    network, weights = space.lower(genome), space.weights(module)
    height, width, channels = network.inputs[0][1][1:]
    images = example_inputs(rng, 3, (height, width, channels))
    with torch.no_grad():
        expected = module(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    outputs = np.stack(
        [run_network(network, weights, images[i : i + 1])[0, 0, 0] for i in range(3)]
    )
    assert np.abs(outputs - expected).max() < 1e-4 * np.abs(expected).max()
    # The check above means something only where outputs depend on the input.
    assert expected.std(axis=0).mean() > 0.05 * expected.std()


@pytest.mark.parametrize(("space_name", "text"), SUBNETS)
def test_weights_are_exactly_those_that_the_network_names(space_name: str, text: str) -> None:
    space = load_space(space_name)
    genome = space.parse(text)
    weights = space.weights(space.module(genome, np.random.default_rng(0)))
    named = {
        name: shape
        for call in space.lower(genome).calls
        for name, shape in zip(call.weights, call.operator.weight_shapes, strict=True)
    }
    assert {name: array.shape for name, array in weights.items()} == named
    assert all(a.dtype == np.float32 and a.flags.c_contiguous for a in weights.values())


def test_module_is_a_function_of_the_generator_and_leaves_torch_alone() -> None:
    space = load_space("nas_bench_macro")
    genome = space.parse("00100020")
    state = torch.random.get_rng_state()
    first, again, other = (
        space.weights(space.module(genome, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_example_inputs_are_smooth_and_differ_from_one_another() -> None:
    images = example_inputs(np.random.default_rng(0), 6, (64, 48, 3))
    assert images.shape == (6, 64, 48, 3)
    assert images.dtype == np.float32
    step = np.abs(np.diff(images, axis=1)).mean()
    assert step < 0.7 * images.std()  # white noise has 1.13: the mean of |a - b|
    assert np.abs(np.corrcoef(images.reshape(6, -1))[~np.eye(6, dtype=bool)]).max() < 0.9
