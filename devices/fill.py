"""Numbers that the board makes for itself, repeated on the host bit by bit."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # SplitMix64's finalizer: Steele, Lea and Flood, "Fast splittable pseudorandom number
    # generators", OOPSLA 2014. Arrays wrap around without a warning.
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(seed: int, scale: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers in [-scale, scale), each a function of the seed and its place in C order alone.

    The runner fills a tensor with the same bits for `Fill(seed, scale)`.

    Returns:
        Array of the given shape, float32.

    Raises:
        ValueError: the seed is not in 0 to 2**64 - 1.
    """
    if not 0 <= seed <= _MASK:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, got {seed}")
    start = _mix(np.array([(seed + _GOLDEN) & _MASK], dtype=np.uint64))
    steps = np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
    hashed = _mix(start + steps * np.uint64(_GOLDEN))
    # 24 bits: every step up to the product is exact in float32.
    unit = (hashed >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return (unit * np.float32(scale)).reshape(shape)
