"""Random weights under which a network's output depends on its input.

A freshly initialised network is no test: batch-norm with its first statistics, or layer scales of
1e-6, let the signal die, and then every output equals every other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def image(seed: int, *shape: int) -> Tensor:
    """A picture of blotches and some noise: patterns of all sizes, as pictures have.

    Args:
        seed: Another seed, another picture.
        shape: (batch, channels, height, width).
    """
    rng = torch.Generator().manual_seed(seed)
    picture = 0.3 * torch.randn(shape, generator=rng)
    for cells in (2, 7):
        coarse = torch.randn((*shape[:2], cells, cells), generator=rng)
        picture = picture + nn.functional.interpolate(
            coarse, shape[2:], mode="bilinear", align_corners=False
        )
    return picture


def like(example: Tensor, seed: int) -> Tensor:
    """Another input of an example's shape: a picture, or noise where it is none."""
    if example.dim() == 4:
        return image(seed, *example.shape)
    return torch.randn(example.shape, generator=torch.Generator().manual_seed(seed))


def outputs_of(module: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[Any]]:
    """What torch computes."""
    with torch.no_grad():
        result = module(*inputs)
    return [each.numpy() for each in (result if isinstance(result, tuple) else (result,))]


def alive(module: nn.Module, example: Tensor, seed: int = 0) -> tuple[nn.Module, tuple[Tensor]]:
    """Draw all weights, and take batch-norm's statistics from a run on other inputs.

    Args:
        module: Changed in place.
        example: The input that is returned with it.
        seed: Draws the weights.

    Returns:
        The module in evaluation mode, and its example inputs.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            for name, weight in part.named_parameters(recurse=False):
                _draw(part, name, weight, rng)
        if any(isinstance(part, _BatchNorm) for part in module.modules()):
            _calibrate(module, torch.cat([like(example, seed + 1 + i) for i in range(2)]))
    return module.eval(), (example,)


def _draw(part: nn.Module, name: str, weight: Tensor, rng: torch.Generator) -> None:
    if isinstance(part, _NORMS) or weight.dim() == 0:
        low, high = (0.7, 1.3) if name == "weight" else (-0.3, 0.3)
        weight.uniform_(low, high, generator=rng)
    elif name == "bias":
        weight.uniform_(-0.1, 0.1, generator=rng)
    elif isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
        # He et al. 2015, eq. 10, between the gains of a rectifier and of no activation
        weight.normal_(0.0, math.sqrt(1.5 / weight[0].numel()), generator=rng)
    elif isinstance(part, nn.ConvTranspose2d):
        n_taps = weight.shape[0] * math.prod(
            k / s for k, s in zip(part.kernel_size, part.stride, strict=True)
        )
        weight.normal_(0.0, math.sqrt(1.5 / n_taps), generator=rng)
    else:  # embeddings, layer scales, tables of positions
        weight.normal_(0.0, 0.5, generator=rng)


def _calibrate(module: nn.Module, inputs: Tensor) -> None:
    """Statistics under which every batch-norm hands on numbers around its own mean and width."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # an average over all batches
        norm.train()
    module(inputs)
