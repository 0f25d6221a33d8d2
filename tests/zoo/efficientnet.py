"""EfficientNet-B0: Tan and Le 2019, "EfficientNet: Rethinking Model Scaling", table 1."""

from __future__ import annotations

from torch import Tensor, nn

from .alive import alive, image

#: Expansion, output channels, blocks, stride of the first block, kernel.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def normed(n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out, eps=1e-3))


class SqueezeExcite(nn.Module):
    """Each channel times a number that depends on the means of all channels."""

    def __init__(self, n_channels: int, n_squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(n_channels, n_squeezed, 1)
        self.expand = nn.Conv2d(n_squeezed, n_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = nn.functional.silu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.expand(squeezed).sigmoid()


class InvertedBottleneck(nn.Module):
    def __init__(self, n_in: int, n_out: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        inner = n_in * expansion
        widen = [normed(n_in, inner), nn.SiLU(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *widen,
            normed(inner, inner, kernel, stride, groups=inner),
            nn.SiLU(inplace=True),
            SqueezeExcite(inner, n_in // 4),
            normed(inner, n_out),
        )
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.is_residual else y


class EfficientNetB0(nn.Module):
    def __init__(self, n_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [normed(3, 32, 3, 2), nn.SiLU(inplace=True)]
        n_in = 32
        for expansion, n_out, n_blocks, stride, kernel in STAGES:
            for index in range(n_blocks):
                first = stride if index == 0 else 1
                layers.append(InvertedBottleneck(n_in, n_out, expansion, first, kernel))
                n_in = n_out
        layers += [normed(n_in, 1280), nn.SiLU(inplace=True), nn.AdaptiveAvgPool2d(1)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, n_classes))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).flatten(1))


def efficientnet_b0() -> tuple[nn.Module, tuple[Tensor]]:
    return alive(EfficientNetB0(), image(0, 1, 3, 224, 224))
