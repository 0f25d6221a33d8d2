"""Eight small convolutional architectures, each around one way to arrange convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .alive import alive, image
from .efficientnet import InvertedBottleneck
from .efficientnet import normed as normed_group


def normed(n_in: int, n_out: int, kernel: int = 3, **given: int) -> nn.Sequential:
    """A convolution that keeps height and width, batch-norm, and a rectifier."""
    dilation = given.get("dilation", 1)
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, padding=padding, bias=False, **given),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class Classifier(nn.Module):
    """Features, their means, and a linear classifier of ten classes."""

    def __init__(self, features: nn.Module, n_features: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(n_features, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


def squeeze_excite() -> tuple[nn.Module, tuple[Tensor]]:
    """Hu et al. 2018, "Squeeze-and-Excitation Networks"."""
    features = nn.Sequential(
        normed_group(3, 16, 3, 2),
        nn.Hardswish(),
        InvertedBottleneck(16, 16, 4, 1, 3),
        InvertedBottleneck(16, 24, 4, 2, 5),
    )
    return alive(Classifier(features, 24), image(0, 1, 3, 32, 32))


class ShuffleUnit(nn.Module):
    """Half of the channels passes by, the other is worked on, then both are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            normed(half, half, 1),
            normed_group(half, half, 3, groups=half),
            normed(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        n, c, height, width = x.shape
        joined = torch.cat([left, self.branch(right)], dim=1)
        return joined.view(n, 2, c // 2, height, width).transpose(1, 2).reshape(x.shape)


def channel_shuffle() -> tuple[nn.Module, tuple[Tensor]]:
    """Ma et al. 2018, "ShuffleNet V2", figure 3 (c); and a convolution in groups before it."""
    features = nn.Sequential(
        normed(3, 32, 3, stride=2), normed(32, 32, 3, groups=4), ShuffleUnit(32), ShuffleUnit(32)
    )
    return alive(Classifier(features, 32), image(0, 1, 3, 32, 32))


class DenseLayer(nn.Module):
    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_in)
        self.convolution = nn.Conv2d(n_in, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.convolution(self.norm(x).relu())], dim=1)


def dense_connections() -> tuple[nn.Module, tuple[Tensor]]:
    """Huang et al. 2017, "Densely Connected Convolutional Networks"."""
    features = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        DenseLayer(16, 8),
        DenseLayer(24, 8),
        normed(32, 16, 1),
        nn.AvgPool2d(2),
        DenseLayer(16, 8),
        DenseLayer(24, 8),
    )
    return alive(Classifier(features, 32), image(0, 1, 3, 32, 32))


class Branches(nn.Module):
    """A 1x1, a 3x3, two 3x3 and a pool, beside each other."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.branches = nn.ModuleList([
            normed(n_in, width, 1),
            nn.Sequential(normed(n_in, width, 1), normed(width, width)),
            nn.Sequential(normed(n_in, width, 1), normed(width, width), normed(width, width)),
            nn.Sequential(pool, normed(n_in, width, 1)),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def branches() -> tuple[nn.Module, tuple[Tensor]]:
    """Szegedy et al. 2016, "Rethinking the Inception Architecture", figure 5."""
    features = nn.Sequential(
        normed(3, 16, 3, stride=2),
        Branches(16, 8),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Branches(32, 8),
    )
    return alive(Classifier(features, 32), image(0, 1, 3, 32, 32))


class Pyramid(nn.Module):
    """Dilated convolutions of several reaches and the mean of all, joined."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.reaches = nn.ModuleList(normed(n_in, width, 3, dilation=d) for d in (1, 2, 4))
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(n_in, width, 1), nn.ReLU())
        self.join = normed(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        return self.join(torch.cat([*(reach(x) for reach in self.reaches), mean], dim=1))


def dilation() -> tuple[nn.Module, tuple[Tensor]]:
    """Chen et al. 2017, "Rethinking Atrous Convolution", figure 5."""
    features = nn.Sequential(normed(3, 16, 3, stride=2), Pyramid(16, 8))
    return alive(Classifier(features, 8), image(0, 1, 3, 32, 32))


class UNet(nn.Module):
    """Down twice and up twice, each level joined with what it was on the way down."""

    def __init__(self) -> None:
        super().__init__()
        self.down0, self.down1, self.inner = normed(3, 8), normed(8, 16), normed(16, 24)
        self.up1 = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.up0 = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1)
        self.merge1, self.merge0 = normed(32, 16), normed(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.down0(image)
        second = self.down1(nn.functional.max_pool2d(first, 2))
        x = self.inner(nn.functional.max_pool2d(second, 2))
        x = self.merge1(torch.cat([self.up1(x), second], dim=1))
        return self.head(self.merge0(torch.cat([self.up0(x), first], dim=1)))


def transposed_convolution() -> tuple[nn.Module, tuple[Tensor]]:
    """Ronneberger et al. 2015, "U-Net", figure 1."""
    return alive(UNet(), image(0, 1, 3, 32, 32))


class LargeKernel(nn.Module):
    """A 31x31 and a 5x5 depthwise convolution added, between two 1x1, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen, self.narrow = normed(width, width, 1), nn.Conv2d(width, width, 1)
        self.large = nn.Conv2d(width, width, 31, padding=15, groups=width, bias=False)
        self.small = nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.widen(x)
        y = self.norms[0](self.large(y)) + self.norms[1](self.small(y))
        return x + self.narrow(y.relu())


def large_kernels() -> tuple[nn.Module, tuple[Tensor]]:
    """Ding et al. 2022, "Scaling Up Your Kernels to 31x31", figure 2."""
    features = nn.Sequential(normed(3, 16, 3, stride=2), LargeKernel(16))
    return alive(Classifier(features, 16), image(0, 1, 3, 40, 40))


class SegmentationHead(nn.Module):
    """Maps of two sizes, the small one enlarged and added, the classes enlarged to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = normed(3, 16, 3, stride=2), normed(16, 24, 3, stride=2)
        self.lateral, self.top = nn.Conv2d(16, 16, 1), nn.Conv2d(24, 16, 1)
        self.classes = nn.Conv2d(16, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(image)
        coarse = self.coarse(fine)
        top = nn.functional.interpolate(self.top(coarse), scale_factor=2.0, mode="nearest")
        scores = self.classes((self.lateral(fine) + top).relu())
        full = nn.functional.interpolate(
            scores, image.shape[2:], mode="bilinear", align_corners=False
        )
        return full, coarse.mean((2, 3))


def bilinear_resize() -> tuple[nn.Module, tuple[Tensor]]:
    """Lin et al. 2017, "Feature Pyramid Networks", with a head for segmentation."""
    return alive(SegmentationHead(), image(0, 1, 3, 32, 32))
