"""Images that look like images to a network, made up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
