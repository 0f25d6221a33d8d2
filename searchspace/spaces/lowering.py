"""The rule that turns layers into fused operators, as a graph compiler would.

Batch-norm is folded into the bias, an activation and a shortcut's addition run in the epilogue of
the convolution before them, a convolution on one pixel is `dense`, a depthwise convolution and the
pointwise one that reads it are one `separable_conv2d`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from profiler.network import Call, Network
from profiler.operator import Operator
from profiler.pairs import join_pairs
from searchspace.spaces.layers import BlockLayer, ConvLayer, DenseLayer, Layer, Layers, PoolLayer

Shape4 = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that a call has made: its name and its NHWC shape."""

    name: str
    shape: Shape4


@dataclass(slots=True)
class _CallList:
    """The calls of a network that is being written down."""

    calls: list[Call] = field(default_factory=list)

    def append(
        self, name: str, operator: Operator, inputs: tuple[Tensor, ...], has_kernel: bool = True
    ) -> Tensor:
        weights = (f"{name}.weight",) if has_kernel else ()
        if "bias" in operator.epilogue:
            weights = (*weights, f"{name}.bias")
        names = tuple(tensor.name for tensor in inputs)
        self.calls.append(Call(operator, names, name, weights))
        return Tensor(name, operator.output_shape)


def lower_layers(name: str, input_shape: Shape4, layers: Layers) -> Network:
    """Lower layers to a network; `input_shape` is NHWC, the input's name is `input`."""
    calls = _CallList()
    tensor = Tensor("input", input_shape)
    for layer_name, layer in layers:
        tensor = _lower_layer(calls, layer_name, layer, tensor)
    inputs = (("input", input_shape),)
    return join_pairs(Network(name, inputs, tuple(calls.calls), (tensor.name,)))


def layer_operators(layers: Layers, input_shape: Shape4) -> tuple[Operator, ...]:
    """The operators of a run of layers on an input of this NHWC shape."""
    return lower_layers("layers", input_shape, layers).operators if layers else ()


def _lower_layer(calls: _CallList, name: str, layer: Layer, x: Tensor) -> Tensor:
    match layer:
        case ConvLayer():
            return _conv(calls, name, layer, x)
        case BlockLayer():
            return _block(calls, name, layer, x)
        case PoolLayer():
            return _pool(calls, name, x)
        case DenseLayer():
            return _dense(calls, name, layer, x)
        case _:
            assert_never(layer)


def _conv(
    calls: _CallList, name: str, layer: ConvLayer, x: Tensor, shortcut: Tensor | None = None
) -> Tensor:
    pad = layer.kernel // 2
    steps = ("bias",) if shortcut is None else ("bias", "add")
    operator = Operator(
        "conv2d",
        x.shape,
        layer.out_channels,
        kernel=(layer.kernel, layer.kernel),
        stride=(layer.stride, layer.stride),
        padding=(pad, pad, pad, pad),
        epilogue=(*steps, layer.activation) if layer.activation else steps,
    )
    return calls.append(name, operator, (x,) if shortcut is None else (x, shortcut))


def _dense(calls: _CallList, name: str, layer: DenseLayer, x: Tensor) -> Tensor:
    steps = ("bias",) if layer.has_bias else ()
    steps = (*steps, layer.activation) if layer.activation else steps
    return calls.append(name, Operator("dense", x.shape, layer.out_channels, epilogue=steps), (x,))


def _depthwise(calls: _CallList, name: str, layer: BlockLayer, x: Tensor) -> Tensor:
    pad = layer.kernel // 2
    operator = Operator(
        "depthwise_conv2d",
        x.shape,
        layer.hidden,
        kernel=(layer.kernel, layer.kernel),
        stride=(layer.stride, layer.stride),
        padding=(pad, pad, pad, pad),
        epilogue=("bias", layer.activation),
    )
    return calls.append(name, operator, (x,))


def _pool(calls: _CallList, name: str, x: Tensor) -> Tensor:
    operator = Operator("global_avg_pool2d", x.shape, x.shape[3])
    return calls.append(name, operator, (x,), has_kernel=False)


def _squeeze_excite(calls: _CallList, name: str, squeeze: int, x: Tensor) -> Tensor:
    channels = x.shape[3]
    pooled = _pool(calls, f"{name}.pool", x)
    reduce = DenseLayer(channels, squeeze, activation="relu")
    excite = DenseLayer(squeeze, channels, activation="hard_sigmoid")
    gate = _dense(calls, f"{name}.reduce", reduce, pooled)
    gate = _dense(calls, f"{name}.excite", excite, gate)
    return calls.append(
        f"{name}.scale", Operator("scale", x.shape, channels), (x, gate), has_kernel=False
    )


def _block(calls: _CallList, name: str, layer: BlockLayer, x: Tensor) -> Tensor:
    inner = x
    if layer.has_expansion:
        expand = ConvLayer(layer.in_channels, layer.hidden, activation=layer.activation)
        inner = _conv(calls, f"{name}.expand", expand, x)
    inner = _depthwise(calls, f"{name}.depthwise", layer, inner)
    if layer.squeeze:
        inner = _squeeze_excite(calls, name, layer.squeeze, inner)
    project = ConvLayer(layer.hidden, layer.out_channels)
    shortcut = x if layer.has_shortcut else None
    return _conv(calls, f"{name}.project", project, inner, shortcut)
