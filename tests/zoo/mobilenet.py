"""MobileNetV2: Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks", table 2."""

from __future__ import annotations

from torch import Tensor, nn

from .alive import alive, image

#: Expansion, output channels, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def normed(n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out))


class InvertedResidual(nn.Module):
    def __init__(self, n_in: int, n_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = n_in * expansion
        widen = [normed(n_in, inner), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *widen,
            normed(inner, inner, 3, stride, groups=inner),
            nn.ReLU6(inplace=True),
            normed(inner, n_out),
        )
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.is_residual else y


class MobileNetV2(nn.Module):
    def __init__(self, n_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [normed(3, 32, 3, 2), nn.ReLU6(inplace=True)]
        n_in = 32
        for expansion, n_out, n_blocks, stride in STAGES:
            for index in range(n_blocks):
                first = stride if index == 0 else 1
                layers.append(InvertedResidual(n_in, n_out, expansion, first))
                n_in = n_out
        layers += [normed(n_in, 1280), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(1280, n_classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).flatten(1))


def mobilenet_v2() -> tuple[nn.Module, tuple[Tensor]]:
    return alive(MobileNetV2(), image(0, 1, 3, 224, 224))
