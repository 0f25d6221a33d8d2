"""Layers as torch modules in NCHW, and their weights with batch-norm folded."""

from __future__ import annotations

from typing import Final, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from searchspace.spaces.layers import (
    BlockLayer,
    ConvLayer,
    DenseLayer,
    Layer,
    Layers,
    PoolLayer,
)

_ACTIVATIONS: Final = {
    "relu": nn.ReLU,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
}


class Unit(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """One weighted operator: a convolution or linear layer, batch-norm if any, an activation."""

    def __init__(
        self,
        linear: nn.Conv2d | nn.Linear,
        norm: nn.BatchNorm2d | None,
        activation: str | None,
        *,
        is_dense: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = norm
        self.activation = _ACTIVATIONS[activation]() if activation else None
        self.is_dense = is_dense

    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator to (n, c, h, w); a linear layer answers (n, c)."""
        y: Tensor = self.linear(x.flatten(1) if isinstance(self.linear, nn.Linear) else x)
        if self.norm is not None:
            y = self.norm(y)
        return y if self.activation is None else self.activation(y)


class Block(nn.Module):  # type: ignore[misc]
    """An inverted bottleneck with optional squeeze-excite and shortcut."""

    def __init__(self, layer: BlockLayer) -> None:
        super().__init__()
        self.expand = None
        if layer.has_expansion:
            self.expand = _conv_unit(
                ConvLayer(layer.in_channels, layer.hidden, activation=layer.activation)
            )
        self.depthwise = _depthwise_unit(layer)
        self.reduce, self.excite = None, None
        if layer.squeeze:
            self.reduce = _pixel_unit(DenseLayer(layer.hidden, layer.squeeze, activation="relu"))
            self.excite = _pixel_unit(
                DenseLayer(layer.squeeze, layer.hidden, activation="hard_sigmoid")
            )
        self.project = _conv_unit(ConvLayer(layer.hidden, layer.out_channels))
        self.has_shortcut = layer.has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (n, c, h, w)."""
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.reduce is not None and self.excite is not None:
            y = y * self.excite(self.reduce(nn.functional.adaptive_avg_pool2d(y, 1)))
        y = self.project(y)
        return y + x if self.has_shortcut else y


def build_module(layers: Layers) -> nn.Module:
    """Build layers as one sequential module in eval mode; its weights are NOT initialised yet."""
    with torch.device("meta"):  # the global random state of torch stays untouched
        module = nn.Sequential()
        for name, layer in layers:
            # torch forbids dots in names; `folded_weights` puts them back.
            module.add_module(name.replace(".", "/"), _module_of(layer))
    return module.to_empty(device="cpu").eval()


def folded_weights(module: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The weights of all units, batch-norm folded in float64 and rounded once.

    Returns:
        `UNIT.weight` in HWIO (convolution), HWC (depthwise) or IO (dense), and `UNIT.bias` (O).
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for path, unit in module.named_modules():
        if isinstance(unit, Unit):
            with torch.no_grad():
                kernel, bias = _fold(unit)
            name = path.replace("/", ".")
            weights[f"{name}.weight"] = np.ascontiguousarray(kernel.numpy(), dtype=np.float32)
            if bias is not None:
                weights[f"{name}.bias"] = np.ascontiguousarray(bias.numpy(), dtype=np.float32)
    return weights


def _fold(unit: Unit) -> tuple[Tensor, Tensor | None]:
    kernel = unit.linear.weight.double()
    bias = None if unit.linear.bias is None else unit.linear.bias.double()
    norm = unit.norm
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        kernel = kernel * gain.reshape(-1, 1, 1, 1)
        shift = norm.running_mean.double() if bias is None else norm.running_mean.double() - bias
        bias = norm.bias.double() - shift * gain
    if unit.is_dense:
        return kernel.reshape(kernel.shape[0], kernel.shape[1]).T, bias
    if isinstance(unit.linear, nn.Conv2d) and unit.linear.groups > 1:
        return kernel[:, 0].permute(1, 2, 0), bias
    return kernel.permute(2, 3, 1, 0), bias


def _module_of(layer: Layer) -> nn.Module:
    match layer:
        case ConvLayer():
            return _conv_unit(layer)
        case BlockLayer():
            return Block(layer)
        case PoolLayer():
            return nn.AdaptiveAvgPool2d(1)
        case DenseLayer(is_conv=True):
            return _pixel_unit(layer)
        case DenseLayer():
            return _linear_unit(layer)
        case _:
            assert_never(layer)


def _conv_unit(layer: ConvLayer) -> Unit:
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel,
        stride=layer.stride,
        padding=layer.kernel // 2,
        bias=False,
    )
    return Unit(conv, nn.BatchNorm2d(layer.out_channels), layer.activation)


def _depthwise_unit(layer: BlockLayer) -> Unit:
    conv = nn.Conv2d(
        layer.hidden,
        layer.hidden,
        layer.kernel,
        stride=layer.stride,
        padding=layer.kernel // 2,
        groups=layer.hidden,
        bias=False,
    )
    return Unit(conv, nn.BatchNorm2d(layer.hidden), layer.activation)


def _pixel_unit(layer: DenseLayer) -> Unit:
    conv = nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=layer.has_bias)
    return Unit(conv, None, layer.activation, is_dense=True)


def _linear_unit(layer: DenseLayer) -> Unit:
    linear = nn.Linear(layer.in_channels, layer.out_channels, bias=layer.has_bias)
    return Unit(linear, None, layer.activation, is_dense=True)
