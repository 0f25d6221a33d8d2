"""Operators and arrays to try things on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from profiler.network import Network
from profiler.operator import ACTIVATIONS, OWN_KINDS, Operator

Array = np.ndarray


@st.composite
def operators(
    draw: st.DrawFn,
    kinds: Sequence[str] = OWN_KINDS,
    most_channels: int = 40,
    most_pixels: int = 10,
) -> Operator:
    """Valid operators of small size: odd extents, one-sided padding, any epilogue."""
    kind = draw(st.sampled_from(kinds))
    channels = draw(st.integers(1, most_channels))
    mixes = kind in {"conv2d", "separable_conv2d", "dense"}
    out_channels = draw(st.integers(1, most_channels)) if mixes else channels
    kernel = stride = dilation = (1, 1)
    padding = (0, 0, 0, 0)
    least = (1, 1)
    if kind in {"conv2d", "depthwise_conv2d", "separable_conv2d", "avg_pool2d", "max_pool2d"}:
        is_pool = kind.endswith("pool2d")
        kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        dilation = (1, 1) if is_pool else draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        # No window of a pool may lie in the padding alone: its result would mean nothing.
        most = tuple(min(2, extent - 1) if is_pool else 2 for extent in kernel)
        padding = tuple(draw(st.integers(0, most[i % 2])) for i in range(4))
        least = tuple(
            max(1, dilation[i] * (kernel[i] - 1) + 1 - padding[i] - padding[i + 2])
            for i in range(2)
        )
    height, width = (draw(st.integers(low, low + most_pixels)) for low in least)
    if kind == "dense":
        height = width = 1
    has_bias = kind in {"conv2d", "depthwise_conv2d", "separable_conv2d", "dense"}
    inner = (
        (
            *(("bias",) if draw(st.booleans()) else ()),
            *((draw(st.sampled_from(ACTIVATIONS)),) if draw(st.booleans()) else ()),
        )
        if kind == "separable_conv2d"
        else ()
    )
    epilogue = (
        *(("bias",) if has_bias and draw(st.booleans()) else ()),
        *(("add",) if kind != "add" and draw(st.booleans()) else ()),
        *((draw(st.sampled_from(ACTIVATIONS)),) if draw(st.booleans()) else ()),
    )
    common = math.gcd(channels, out_channels) if kind == "conv2d" else 1
    groups = draw(st.sampled_from([n for n in range(1, common + 1) if common % n == 0]))
    shape = (draw(st.integers(1, 2)), height, width, channels)
    return Operator(
        kind,
        shape,
        out_channels,
        kernel,
        stride,
        padding,
        dilation,
        epilogue,
        groups=groups,
        inner_epilogue=inner,
    )


@st.composite
def square_convolutions(draw: st.DrawFn) -> Operator:
    """Convolutions of 3x3 windows with enough channels for minimal filtering."""
    channels, out_channels = draw(st.tuples(st.integers(16, 40), st.integers(16, 80)))
    padding = draw(st.tuples(*[st.integers(0, 2)] * 4))
    height, width = (
        draw(st.integers(max(1, 3 - padding[i] - padding[i + 2]), 20)) for i in range(2)
    )
    epilogue = (
        *(("bias",) if draw(st.booleans()) else ()),
        *(("add",) if draw(st.booleans()) else ()),
        *((draw(st.sampled_from(ACTIVATIONS)),) if draw(st.booleans()) else ()),
    )
    shape = (draw(st.integers(1, 2)), height, width, channels)
    return Operator("conv2d", shape, out_channels, (3, 3), padding=padding, epilogue=epilogue)


def inputs_of(operator: Operator, rng: np.random.Generator) -> list[Array]:
    """Inputs in the order of `operator.input_shapes`.

    A maximum sees negative numbers alone, unless an activation would make zeros of them.
    """
    shift = -6.0 if operator.kind == "max_pool2d" and operator.activation is None else 0.0
    return [(rng.normal(size=shape) + shift).astype(np.float32) for shape in operator.input_shapes]


def weights_of(operator: Operator, rng: np.random.Generator) -> list[Array]:
    """Logical weights that keep a signal's size."""
    if not operator.weight_shapes:
        return []
    if operator.kind == "separable_conv2d":
        return [*weights_of(operator.depthwise, rng), *weights_of(operator.pointwise, rng)]
    kernel, *biases = operator.weight_shapes
    fan_in = np.prod(kernel[:2] if operator.kind == "depthwise_conv2d" else kernel[:-1])
    arrays = [rng.normal(size=kernel) * np.sqrt(2 / fan_in)]
    arrays += [rng.normal(size=shape) * 0.5 for shape in biases]
    return [array.astype(np.float32) for array in arrays]


def network_inputs(network: Network, rng: np.random.Generator) -> dict[str, Array]:
    """Inputs of a network by name, NHWC."""
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in network.inputs}


def network_weights(network: Network, rng: np.random.Generator) -> dict[str, Array]:
    """Logical weights of a network by name."""
    return {
        name: array
        for call in network.calls
        for name, array in zip(call.weights, weights_of(call.operator, rng), strict=True)
    }


def relative_error(array: Array, expected: Array) -> float:
    """Largest difference over the largest magnitude expected."""
    assert array.shape == expected.shape
    assert np.any(expected), "zeros prove nothing"
    return float(np.abs(array - expected).max() / np.abs(expected).max())
