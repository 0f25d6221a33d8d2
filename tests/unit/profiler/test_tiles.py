"""Tiles divide what they cut, and their vectors are types that processors have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from profiler.schedules.tiles import channel_tiles, divisors, vector_split

LANES = st.sampled_from([4, 8, 16])


def is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


@given(st.integers(1, 4096), LANES)
def test_a_tile_is_cut_into_the_widest_vectors_of_a_power_of_two(tile: int, lanes: int) -> None:
    vectors, width = vector_split(tile, lanes)
    assert vectors * width == tile
    assert is_power_of_two(width)
    assert width == max(w for w in (1, 2, 4, 8, 16) if w <= lanes and tile % w == 0)


@given(st.integers(1, 4096), LANES, st.sampled_from([(1, 2, 4), (1, 2, 3, 4, 8), (1, 4)]))
def test_tiles_divide_the_channels_and_keep_their_vectors_as_wide(
    n_channels: int, lanes: int, vectors: tuple[int, ...]
) -> None:
    tiles = channel_tiles(n_channels, lanes, vectors)
    assert tiles
    _, widest = vector_split(n_channels, lanes)
    for tile in tiles:
        assert n_channels % tile == 0
        assert vector_split(tile, lanes)[1] == widest
        assert tile <= (max(vectors) if widest == lanes else 2 * max(vectors)) * lanes


def test_channels_that_no_whole_vector_divides_have_every_tile_of_the_next_width() -> None:
    assert channel_tiles(24, 16, (1, 2, 4)) == (8, 24)
    assert channel_tiles(40, 16, (1, 2, 4)) == (8, 40)
    assert channel_tiles(68, 16, (1, 2, 4)) == (4, 68)
    assert channel_tiles(64, 16, (1, 2, 4)) == (16, 32, 64)


@given(st.integers(1, 2000), st.integers(1, 64))
def test_divisors_are_all_that_divide(value: int, most: int) -> None:
    assert divisors(value, most) == tuple(
        d for d in range(1, most + 1) if d <= value and value % d == 0
    )
