"""The layers that subnets are made of, as values: what both lowering and torch modules read."""

from __future__ import annotations

from dataclasses import dataclass


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of a divisor, never more than 10 % down.

    Source: `_make_divisible` of the MobileNet reference code, as Once-for-All uses it.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """A convolution with batch-norm and perhaps an activation; padding keeps the size."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    activation: str | None = None


@dataclass(frozen=True, slots=True)
class BlockLayer:
    """An inverted bottleneck: expand 1x1, depthwise, squeeze-excite if any, project 1x1.

    Attributes:
        hidden: Channels of the depthwise convolution; no expanding convolution when it equals
            `in_channels`.
        squeeze: Channels inside squeeze-excite; 0 for none.
    """

    in_channels: int
    out_channels: int
    hidden: int
    kernel: int
    stride: int
    activation: str
    squeeze: int = 0

    @property
    def has_expansion(self) -> bool:
        """Whether a 1x1 convolution widens the input first."""
        return self.hidden != self.in_channels

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True, slots=True)
class PoolLayer:
    """A global average pool."""

    channels: int


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A fully connected layer on one pixel; a 1x1 convolution in torch where `is_conv`."""

    in_channels: int
    out_channels: int
    has_bias: bool = True
    activation: str | None = None
    is_conv: bool = False


Layer = ConvLayer | BlockLayer | PoolLayer | DenseLayer
#: (name, layer) in order of execution; a name starts the names of the layer's tensors and weights.
Layers = tuple[tuple[str, Layer], ...]
