"""Operators: what is refused, and shapes and counts against torch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from profiler.operator import ACTIVATIONS, OWN_KINDS, Operator, parse_key, separable_operator

from .examples import operators

CONV = Operator("conv2d", (1, 8, 8, 16), 32, kernel=(3, 3), padding=(1, 1, 1, 1))
DENSE = Operator("dense", (1, 1, 1, 16), 32)
ADD = Operator("add", (1, 8, 8, 16), 16)
POOL = Operator("max_pool2d", (1, 8, 8, 16), 16, kernel=(2, 2))


@settings(deadline=None)
@given(operators())
def test_a_key_is_read_back_as_the_same_operator(operator: Operator) -> None:
    assert parse_key(operator.key) == operator


@settings(deadline=None)
@given(operators(), operators())
def test_different_operators_have_different_keys(a: Operator, b: Operator) -> None:
    assert (a.key == b.key) == (a == b)


def test_the_key_is_the_text_that_stores_hold() -> None:
    operator = Operator(
        "conv2d", (1, 8, 9, 16), 32, (3, 5), (2, 1), (0, 1, 2, 3), (1, 2), ("bias", "add", "relu6")
    )
    assert operator.key == "conv2d:1x8x9x16:o32:k3x5:s2x1:p0.1.2.3:d1x2:bias,add,relu6:float32"
    assert ADD.key == "add:1x8x8x16:o16:k1x1:s1x1:p0.0.0.0:d1x1::float32"
    grouped = Operator("conv2d", (1, 8, 9, 16), 32, groups=4)
    assert grouped.key == "conv2d:1x8x9x16:o32:k1x1:s1x1:p0.0.0.0:d1x1:g4::float32"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "conv2d",
        f"{CONV.key} ",
        CONV.key.replace(":s1x1", ""),
        CONV.key.replace("o32", "o-32"),
        CONV.key.replace("8x8", "8"),
        CONV.key.replace("float32", "float32\n"),
    ],
)
def test_a_text_that_is_no_key_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="not an operator key: ") as caught:
        parse_key(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("conv2d", "conv3d", "kind must be one of conv2d"),
        ("float32", "float64", "dtype must be one of float32"),
        ("o32", "o0", "out_channels must be >= 1"),
        ("::", ":erf:", "epilogue must be bias, add, activation"),
    ],
)
def test_a_key_of_an_invalid_operator_is_refused(old: str, new: str, message: str) -> None:
    assert old in CONV.key
    with pytest.raises(ValueError, match=message):
        parse_key(CONV.key.replace(old, new))


@pytest.mark.parametrize(
    ("valid", "changes", "rule", "value"),
    [
        (CONV, {"kind": "conv3d"}, r"kind must be one of conv2d, .*, scale", "'conv3d'"),
        (CONV, {"dtype": "int3"}, "dtype must be one of float32", "'int3'"),
        (CONV, {"input_shape": (1, 0, 8, 16)}, "input_shape must be >= 1", "(1, 0, 8, 16)"),
        (CONV, {"input_shape": (-1, 8, 8, 16)}, "input_shape must be >= 1", "(-1, 8, 8, 16)"),
        (CONV, {"out_channels": 0}, "out_channels must be >= 1", "(0,)"),
        (CONV, {"kernel": (3, 0)}, "kernel must be >= 1", "(3, 0)"),
        (CONV, {"stride": (0, 1)}, "stride must be >= 1", "(0, 1)"),
        (CONV, {"padding": (1, 1, -1, 1)}, "padding must be >= 0", "(1, 1, -1, 1)"),
        (CONV, {"dilation": (0, 1)}, "dilation must be >= 1", "(0, 1)"),
        (CONV, {"epilogue": ("erf",)}, "epilogue must be bias, add, activation", "erf"),
        (CONV, {"epilogue": ("relu", "bias")}, "in this order", "('relu', 'bias')"),
        (CONV, {"epilogue": ("add", "add")}, "in this order", "('add', 'add')"),
        (CONV, {"epilogue": ("relu", "relu6")}, "in this order", "('relu', 'relu6')"),
        (POOL, {"epilogue": ("bias",)}, "bias needs a kind with weights", "max_pool2d"),
        (ADD, {"epilogue": ("add",)}, "epilogue add needs a kind other than add", ""),
        (ADD, {"kernel": (1, 2)}, "add takes no kernel, stride, padding or dilation", "(1, 2)"),
        (DENSE, {"stride": (2, 1)}, "dense takes no kernel, stride", "(2, 1)"),
        (CONV, {"groups": 0}, "groups must be >= 1", "(0,)"),
        (CONV, {"groups": 3}, "groups must divide the channels of a conv2d", "3 for conv2d of 16"),
        (POOL, {"groups": 2}, "groups must divide the channels of a conv2d", "max_pool2d"),
        (ADD, {"padding": (0, 0, 0, 1)}, "add takes no kernel, stride", "(0, 0, 0, 1)"),
        (DENSE, {"dilation": (1, 2)}, "dense takes no kernel, stride", "(1, 2)"),
        (POOL, {"out_channels": 8}, "out_channels of max_pool2d must equal .* 16", "got 8"),
        (DENSE, {"input_shape": (1, 1, 2, 16)}, r"dense reads \(n, 1, 1, c\)", "(1, 1, 2, 16)"),
        (POOL, {"kernel": (9, 2)}, "has no output: kernel too large", "(9, 2)"),
        (CONV, {"dilation": (5, 1)}, "has no output: kernel too large", "(5, 1)"),
    ],
)
def test_an_invalid_operator_is_refused_with_rule_and_value(
    valid: Operator, changes: dict[str, object], rule: str, value: str
) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        replace(valid, **changes)
    assert value in str(caught.value)


def test_average_pooling_takes_no_dilation_because_neither_torch_nor_onnx_has_it() -> None:
    with pytest.raises(ValueError, match=r"avg_pool2d takes no dilation, got \(2, 1\)"):
        Operator("avg_pool2d", (1, 8, 8, 16), 16, kernel=(2, 2), dilation=(2, 1))


WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")
SEPARABLE = Operator(
    "separable_conv2d", (1, 8, 8, 16), 32, (3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "add"),
    inner_epilogue=("bias", "relu6"),
)  # fmt: skip


def test_a_separable_convolution_is_its_two_halves() -> None:
    first, second = SEPARABLE.depthwise, SEPARABLE.pointwise
    assert first == Operator(
        "depthwise_conv2d", (1, 8, 8, 16), 16, (3, 3), padding=(1, 1, 1, 1),
        epilogue=("bias", "relu6"),
    )  # fmt: skip
    assert second == Operator("conv2d", (1, 8, 8, 16), 32, epilogue=("bias", "add"))
    assert separable_operator(first, second) == SEPARABLE == parse_key(SEPARABLE.key)
    assert SEPARABLE.n_flops == first.n_flops + second.n_flops
    assert SEPARABLE.weight_shapes == ((3, 3, 16), (16,), (1, 1, 16, 32), (32,))
    assert SEPARABLE.input_shapes == ((1, 8, 8, 16), (1, 8, 8, 32))
    assert SEPARABLE.output_shape == second.output_shape


@pytest.mark.parametrize("inner", [("add",), ("relu", "bias")])
def test_an_inner_epilogue_adds_no_tensor_and_is_in_order(inner: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="epilogue"):
        replace(SEPARABLE, inner_epilogue=inner)


def test_an_inner_epilogue_belongs_to_separable_convolutions() -> None:
    with pytest.raises(ValueError, match="inner_epilogue belongs to separable_conv2d"):
        replace(CONV, inner_epilogue=("bias",))


@settings(deadline=None)
@given(operators(WEIGHTED))
def test_shapes_macs_and_weights_agree_with_torch(operator: Operator) -> None:
    n, height, width, channels = operator.input_shape
    has_bias = "bias" in operator.epilogue
    with torch.device("meta"):
        if operator.kind == "dense":
            module: nn.Module = nn.Linear(channels, operator.out_channels, bias=has_bias)
            x = torch.empty(n, 1, 1, channels)
        else:
            top, left, bottom, right = operator.padding
            module = nn.Conv2d(
                channels,
                operator.out_channels,
                operator.kernel,
                operator.stride,
                dilation=operator.dilation,
                groups=channels if operator.kind == "depthwise_conv2d" else operator.groups,
                bias=has_bias,
            )
            x = torch.empty(n, channels, height + top + bottom, width + left + right)
        with FlopCounterMode(display=False) as counter:
            y = module(x)
    if operator.kind != "dense":
        y = y.permute(0, 2, 3, 1)
    assert tuple(y.shape) == operator.output_shape
    assert operator.n_flops == 2 * operator.n_macs == counter.get_total_flops()
    assert operator.weight_bytes == 4 * sum(p.numel() for p in module.parameters())
    assert operator.output_bytes == 4 * y.numel()


@settings(deadline=None)
@given(operators(("avg_pool2d", "max_pool2d", "global_avg_pool2d")))
def test_shapes_of_pools_agree_with_torch(operator: Operator) -> None:
    n, height, width, channels = operator.input_shape
    top, left, bottom, right = operator.padding
    x = torch.empty(n, channels, height + top + bottom, width + left + right, device="meta")
    pool = {
        "avg_pool2d": nn.AvgPool2d(operator.kernel, operator.stride),
        "max_pool2d": nn.MaxPool2d(operator.kernel, operator.stride),
        "global_avg_pool2d": nn.AdaptiveAvgPool2d(1),
    }[operator.kind]
    assert tuple(pool(x).permute(0, 2, 3, 1).shape) == operator.output_shape
    assert operator.n_macs == operator.weight_bytes == 0
    n_taps = math.prod(operator.kernel)
    n_flops = operator.input_bytes // 4 if operator.kind[0] == "g" else operator.output_bytes // 4
    if "add" not in operator.epilogue:
        assert operator.n_flops == n_flops * n_taps


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        (ADD, ((1, 8, 8, 16), (1, 8, 8, 16))),
        (Operator("scale", (2, 8, 8, 16), 16), ((2, 8, 8, 16), (2, 1, 1, 16))),
        (
            Operator("scale", (2, 8, 8, 16), 16, epilogue=("add",)),
            ((2, 8, 8, 16), (2, 1, 1, 16), (2, 8, 8, 16)),
        ),
        (replace(CONV, stride=(2, 2), epilogue=("add",)), ((1, 8, 8, 16), (1, 4, 4, 32))),
        (POOL, ((1, 8, 8, 16),)),
    ],
)
def test_data_inputs_are_the_first_then_the_second_then_the_residual(
    operator: Operator, inputs: tuple[tuple[int, ...], ...]
) -> None:
    assert operator.input_shapes == inputs
    assert operator.input_bytes == 4 * sum(map(math.prod, inputs))


def test_weights_are_kernel_then_bias_in_the_layout_that_the_docstring_names() -> None:
    assert replace(CONV, epilogue=("bias",)).weight_shapes == ((3, 3, 16, 32), (32,))
    depthwise = Operator("depthwise_conv2d", (1, 8, 8, 16), 16, kernel=(3, 5))
    assert depthwise.weight_shapes == ((3, 5, 16),)
    assert replace(DENSE, epilogue=("bias",)).weight_shapes == ((16, 32), (32,))
    assert ADD.weight_shapes == POOL.weight_shapes == ()


@given(st.sampled_from(ACTIVATIONS))
def test_the_activation_is_found_behind_bias_and_residual(name: str) -> None:
    assert replace(CONV, epilogue=("bias", "add", name)).activation == name
    assert replace(CONV, epilogue=("bias", "add")).activation is None


def test_the_strategy_draws_every_kind() -> None:
    drawn: set[str] = set()

    @settings(derandomize=True, database=None, max_examples=400)
    @given(operators())
    def draw(operator: Operator) -> None:
        drawn.add(operator.kind)

    draw()
    assert drawn == set(OWN_KINDS)
