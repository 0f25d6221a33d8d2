"""ConvNeXt-Atto: Liu et al. 2022, "A ConvNet for the 2020s"; widths of Woo et al. 2023 (V2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .alive import alive, image

WIDTHS, DEPTHS = (40, 80, 160, 320), (2, 2, 6, 2)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (batch, channels, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A 7x7 depthwise convolution and two products, scaled and added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.scale * self.mlp(self.norm(y))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 3
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if stage == 0:
                layers += [nn.Conv2d(n_in, width, 4, 4), ChannelNorm(width, eps=1e-6)]
            else:
                layers += [ChannelNorm(n_in, eps=1e-6), nn.Conv2d(n_in, width, 2, 2)]
            layers += [Block(width) for _ in range(depth)]
            n_in = width
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(n_in, eps=1e-6)
        self.head = nn.Linear(n_in, 1000)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.features(image).mean((2, 3))))


def convnext_atto() -> tuple[nn.Module, tuple[Tensor]]:
    return alive(ConvNeXt(WIDTHS, DEPTHS), image(0, 1, 3, 224, 224))
