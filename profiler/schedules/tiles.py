"""Numbers that schedules are made of."""

from __future__ import annotations

from collections.abc import Iterable


def divisors(value: int, most: int) -> tuple[int, ...]:
    """Divisors of value up to most, ascending."""
    return tuple(d for d in range(1, min(value, most) + 1) if value % d == 0)


def channel_tiles(n_channels: int, lanes: int, vectors: Iterable[int]) -> tuple[int, ...]:
    """Tiles that divide the channels: so many whole vectors, else vectors of fewer lanes.

    Where no tile of whole vectors divides the channels, all that keep the widest vectors that do,
    up to twice as many channels: narrow vectors leave registers free.
    """
    counts = tuple(vectors)
    whole = tuple(v * lanes for v in counts if n_channels % (v * lanes) == 0)
    if whole:
        return whole
    _, widest = vector_split(n_channels, lanes)
    return tuple(
        tile
        for tile in divisors(n_channels, 2 * max(counts) * lanes)
        if vector_split(tile, lanes)[1] == widest
    )


def vector_split(tile: int, lanes: int) -> tuple[int, int]:
    """Split a tile into (vectors, lanes): whole vectors, else the largest power of two that fits.

    Vectors of other widths are no type of any processor: 24 numbers as one vector took 20 times as
    long as three vectors of 8 (AVX-512).
    """
    fitting = min(tile & -tile, lanes)  # its lowest bit is the largest power of two that divides it
    return tile // fitting, fitting
