"""Four small architectures that mix positions without convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .alive import alive, image
from .swin import Swin


class MixerBlock(nn.Module):
    """Products along positions, then along channels."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.positions = nn.Sequential(nn.Linear(length, 24), nn.GELU(), nn.Linear(24, length))
        self.channels = nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positions(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Patches(nn.Module):
    """An image cut into patches, blocks over them, and a classifier of their mean."""

    def __init__(self, width: int, *blocks: nn.Module) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


def layer_norm_gelu() -> tuple[nn.Module, tuple[Tensor]]:
    """Tolstikhin et al. 2021, "MLP-Mixer", figure 1."""
    return alive(Patches(32, MixerBlock(64, 32), MixerBlock(64, 32)), image(0, 1, 3, 32, 32))


def windowed_attention() -> tuple[nn.Module, tuple[Tensor]]:
    """Liu et al. 2021, "Swin Transformer", of two windows a side."""
    return alive(Swin(32, 16, 2, 4), image(0, 1, 3, 32, 32))


class LinearAttention(nn.Module):
    """Keys meet values first: cost grows with the length, not with its square."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = (
            part.view(n, length, self.n_heads, -1) for part in self.qkv(self.norm(x)).chunk(3, -1)
        )
        q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1  # eq. 7
        state = torch.einsum("nlhd,nlhe->nhde", k, v)
        total = torch.einsum("nlhd,nhd->nlh", q, k.sum(1))
        mixed = torch.einsum("nlhd,nhde->nlhe", q, state) / total[..., None]
        return x + self.project(mixed.reshape(n, length, width))


def linear_attention() -> tuple[nn.Module, tuple[Tensor]]:
    """Katharopoulos et al. 2020, "Transformers are RNNs", eq. 5 and 7."""
    return alive(Patches(32, LinearAttention(32, 2)), image(0, 1, 3, 32, 32))


class GatedLinearUnit(nn.Module):
    """Half of a product, gated by the other half; RMS norm before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.widen(self.norm(x)).chunk(2, dim=-1)
        return x + self.narrow(nn.functional.silu(gate) * value)


class GatedConvolution(nn.Module):
    """A causal convolution along positions, gated by a sigmoid (Dauphin et al. 2017, eq. 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, 2 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x.transpose(1, 2), (2, 0))
        return x + nn.functional.glu(self.convolution(padded), dim=1).transpose(1, 2)


def gated_linear_units() -> tuple[nn.Module, tuple[Tensor]]:
    """Shazeer 2020, "GLU Variants Improve Transformer", eq. 6."""
    blocks = GatedLinearUnit(32), GatedConvolution(32), GatedLinearUnit(32)
    return alive(Patches(32, *blocks), image(0, 1, 3, 32, 32))
