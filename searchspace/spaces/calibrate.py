"""Seeded weights and batch-norm statistics that keep the signal of an untrained network alive.

With batch-norm's default statistics the signal of a random network decays to nothing, outputs
stop depending on the input, and every numerical check passes: so the statistics are taken from
images that look like images.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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


def example_inputs(
    rng: np.random.Generator, n_images: int, shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Make smooth images with the spectrum of natural ones, normalised as networks expect.

    The amplitude falls with frequency as 1 / f (Field 1987, "Relations between the statistics of
    natural images"); channels are correlated; each image has its own brightness and contrast.

    Args:
        rng: Draws the images.
        n_images: How many.
        shape: (height, width, channels).

    Returns:
        NHWC, shape (n_images, height, width, channels), about zero mean and unit variance.
    """
    height, width, channels = shape
    vertical = np.fft.fftfreq(height)[:, None]
    horizontal = np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(vertical, horizontal)
    amplitude = 1.0 / np.maximum(frequency, 1.0 / max(height, width))
    amplitude[0, 0] = 0.0
    noise = rng.standard_normal((n_images, channels + 1, height, width))
    fields = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(height, width))
    fields /= fields.std(axis=(2, 3), keepdims=True)
    # One field shared by the channels (luminance), one of its own each (colour).
    images = 0.9 * fields[:, :1] + 0.45 * fields[:, 1:]
    contrast = rng.uniform(0.5, 1.3, (n_images, 1, 1, 1))
    brightness = rng.normal(0.0, 0.4, (n_images, channels, 1, 1))
    return np.ascontiguousarray((contrast * images + brightness).transpose(0, 2, 3, 1), np.float32)
