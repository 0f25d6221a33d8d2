"""Numbers that schedules are made of."""

from __future__ import annotations

from collections.abc import Iterable


def divisors(value: int, most: int) -> tuple[int, ...]:
    """Divisors of value up to most, ascending."""
    return tuple(d for d in range(1, min(value, most) + 1) if value % d == 0)


def channel_tiles(n_channels: int, lanes: int, vectors: Iterable[int]) -> tuple[int, ...]:
    """Tiles of whole vectors that divide the channels; else the largest divisors there are."""
    tiles = tuple(v * lanes for v in vectors if n_channels % (v * lanes) == 0)
    return tiles or divisors(n_channels, max(vectors) * lanes)[-1:]


def vector_split(tile: int, lanes: int) -> tuple[int, int]:
    """Split a tile into (vectors, lanes); a tile of no whole vectors is one odd vector."""
    return (tile // lanes, lanes) if tile % lanes == 0 else (1, tile)
