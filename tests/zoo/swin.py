"""Attention inside windows that shift from block to block: Liu et al. 2021, "Swin Transformer"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .alive import alive, image


class WindowAttention(nn.Module):
    """Attention among the positions of each window, with a learned term for each distance."""

    def __init__(self, width: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.n_heads, self.window = n_heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, n_heads))
        rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        places = torch.stack([rows.flatten(), columns.flatten()])
        distance = places[:, :, None] - places[:, None, :] + window - 1
        self.register_buffer("index", distance[0] * (2 * window - 1) + distance[1])

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Windows of shape (n_windows, positions, width); the mask is (n_windows, 1, p, p)."""
        n, length, width = windows.shape
        heads = self.qkv(windows).reshape(n, length, 3, self.n_heads, width // self.n_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q * (width // self.n_heads) ** -0.5 @ k.transpose(-2, -1)
        bias = self.table[self.index.flatten()].view(length, length, self.n_heads)
        scores = scores + bias.permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask
        mixed = scores.softmax(-1) @ v
        return self.project(mixed.transpose(1, 2).reshape(n, length, width))


class SwinBlock(nn.Module):
    def __init__(self, size: int, width: int, n_heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, n_heads, window)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.register_buffer("mask", _shift_mask(size, window, shift) if shift else None)

    def forward(self, x: Tensor) -> Tensor:
        """A map of shape (batch, height, width, channels)."""
        y = self.norm1(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = merge(self.attention(cut(y, self.window), self.mask), self.window, x.shape)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y
        return x + self.mlp(self.norm2(x))


def cut(x: Tensor, window: int) -> Tensor:
    """A map as windows (n_windows, positions, channels)."""
    n, height, width, c = x.shape
    x = x.view(n, height // window, window, width // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def merge(windows: Tensor, window: int, shape: torch.Size) -> Tensor:
    """The map whose windows these are."""
    n, height, width, c = shape
    x = windows.view(n, height // window, width // window, window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, height, width, c)


def _shift_mask(size: int, window: int, shift: int) -> Tensor:
    """-100 between positions that the shift brought into one window from opposite borders."""
    region = torch.zeros(size)
    region[size - window :] = 1
    region[size - shift :] = 2
    regions = cut((3 * region[:, None] + region)[None, :, :, None], window)[..., 0]
    differs = regions[:, :, None] != regions[:, None, :]
    return torch.where(differs, -100.0, 0.0)[:, None]


class PatchMerging(nn.Module):
    """Four neighbours become one position of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(torch.cat(corners, -1)))


class Swin(nn.Module):
    """Two stages of two blocks each, the second block of each shifted."""

    def __init__(self, size: int, width: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.norm0 = nn.LayerNorm(width)
        stages = []
        for stage in range(2):
            inside, scale = size // 4 // 2**stage, 2**stage
            stages += [PatchMerging(width)] if stage else []
            stages += [
                SwinBlock(inside, width * scale, n_heads * scale, window, shift)
                for shift in (0, window // 2)
            ]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(2 * width)
        self.head = nn.Linear(2 * width, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stages(self.norm0(self.patches(image).permute(0, 2, 3, 1)))
        return self.head(self.norm(x).mean((1, 2)))


def swin_blocks() -> tuple[nn.Module, tuple[Tensor]]:
    return alive(Swin(224, 48, 3, 7), image(0, 1, 3, 224, 224))
