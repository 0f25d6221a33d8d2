"""Seeded weights and batch-norm statistics that keep the signal of an untrained network alive.

With batch-norm's default statistics the signal of a random network decays to nothing, outputs
stop depending on the input, and every numerical check passes: so the statistics are taken from
images that look like images.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import nn

from searchspace.spaces.images import example_inputs

#: Images whose statistics a batch-norm layer is given.
_N_CALIBRATION_IMAGES: Final = 8


def initialise(module: nn.Module, rng: np.random.Generator) -> None:
    """Draw all weights: He-normal kernels, small biases, gamma near 1, beta near 0. UNTRAINED.

    Source of the kernels' spread: He et al., "Delving Deep into Rectifiers", Eq. 10.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
                if part.bias is not None:
                    nn.init.normal_(part.bias, std=0.05, generator=generator)
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
                nn.init.uniform_(part.weight, 0.8, 1.2, generator=generator)
                nn.init.normal_(part.bias, std=0.1, generator=generator)


def calibrate(
    module: nn.Module, input_shape: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    """Give each batch-norm layer the statistics of natural-looking images; ends in eval mode.

    Args:
        module: Changed in place; reads (n, channels, height, width).
        input_shape: NHWC; the batch is ignored.
        rng: Draws the images.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average: torch's meaning of None
    _, height, width, channels = input_shape
    images = example_inputs(rng, _N_CALIBRATION_IMAGES, (height, width, channels))
    module.train()
    with torch.no_grad():
        module(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
