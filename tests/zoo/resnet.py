"""ResNet-18: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1."""

from __future__ import annotations

from torch import Tensor, nn

from .alive import alive, image

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


def normed(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(n_out)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.first = normed(n_in, n_out, 3, stride)
        self.second = normed(n_out, n_out, 3)
        is_same = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if is_same else normed(n_in, n_out, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.relu(self.first(x)))
        y += self.shortcut(x)
        return self.relu(y)


class ResNet18(nn.Module):
    def __init__(self, n_classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            normed(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)
        )
        blocks = []
        n_in = 64
        for n_out, stride in STAGES:
            blocks += [BasicBlock(n_in, n_out, stride), BasicBlock(n_out, n_out, 1)]
            n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(n_in, n_classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(image))).flatten(1))


def resnet18() -> tuple[nn.Module, tuple[Tensor]]:
    return alive(ResNet18(), image(0, 1, 3, 224, 224))
