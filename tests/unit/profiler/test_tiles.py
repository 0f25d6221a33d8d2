"""Tiles cover what they cut and none is small; their vectors are types that processors have."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.schedules.tiles import (
    Run,
    divisors,
    even_runs,
    even_size,
    fitting_lanes,
    lane_choices,
    last_apart,
    pieces,
    tall_tiles,
    vector_split,
)

LANES = st.sampled_from([4, 8, 16])
TOTALS, MOSTS = st.integers(1, 3000), st.integers(1, 64)
N_REGISTERS = st.sampled_from([16, 32])


def is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def tiles_of(runs: tuple[Run, ...]) -> list[tuple[int, int]]:
    """(first, size) of every tile, in order."""
    return [(run.start + i * run.size, run.size) for run in runs for i in range(run.count)]


@pytest.mark.parametrize(
    ("total", "most", "runs"),
    [
        (197, 14, (Run(0, 2, 14), Run(28, 13, 13))),
        (169, 12, (Run(0, 4, 12), Run(48, 11, 11))),
        (63, 5, (Run(0, 11, 5), Run(55, 2, 4))),
        (9, 4, (Run(0, 3, 3),)),
        (12, 4, (Run(0, 3, 4),)),
        (5, 4, (Run(0, 1, 3), Run(3, 1, 2))),
        (3, 8, (Run(0, 1, 3),)),
        (1, 1, (Run(0, 1, 1),)),
    ],
)
def test_lengths_are_cut_as_worked_by_hand(total: int, most: int, runs: tuple[Run, ...]) -> None:
    assert even_runs(total, most) == runs
    assert even_size(total, most) == runs[0].size


@given(TOTALS, MOSTS)
def test_even_tiles_cover_a_length_with_as_few_as_can_be_and_none_is_small(
    total: int, most: int
) -> None:
    runs = even_runs(total, most)
    tiles = tiles_of(runs)
    assert [number for first, size in tiles for number in range(first, first + size)] == list(
        range(total)
    )
    sizes = [size for _, size in tiles]
    assert max(sizes) <= most
    assert (len(sizes) - 1) * most < total  # one tile fewer could not hold all
    assert max(sizes) - min(sizes) <= 1
    assert 2 * min(sizes) >= min(total, most)
    assert sizes == sorted(sizes, reverse=True)
    assert len(runs) == len(set(sizes))
    assert runs[-1].end == total
    assert even_size(total, most) == max(sizes)


@pytest.mark.parametrize(
    ("n_rows", "n_vectors", "n_registers", "tiles"),
    [
        # Loads a product: 8/12, 6/8, 15/14.
        (196, 4, 16, ((6, 2), (2, 4), (14, 1))),
        # 10/25, 10/24 twice, 12/27, 10/21, 16/28, 10/16, 30/29.
        (197, 63, 32, ((5, 5), (6, 4), (4, 6), (9, 3), (3, 7), (14, 2), (2, 8), (29, 1))),
        # One row, so few sums that units are idle: 5/4 + 4/8, 4/3 + 5/8, 3/2 + 6/8, 2 + 7/8.
        (1, 8, 16, ((1, 4), (1, 3), (1, 2), (1, 1))),
        # 169 rows in 13 tiles of 13 and not in tiles of 14; one vector.
        (169, 1, 16, ((13, 1),)),
        (1, 1, 16, ((1, 1),)),
    ],
)
def test_tall_tiles_are_ordered_as_worked_by_hand(
    n_rows: int, n_vectors: int, n_registers: int, tiles: tuple[tuple[int, int], ...]
) -> None:
    assert tall_tiles(n_rows, n_vectors, n_registers) == tiles


def cost(tile: tuple[int, int]) -> float:
    """Loads a product, and the share of two units' four cycles that has no sum to work on."""
    rows, vectors = tile
    return (rows + vectors) / (rows * vectors) + max(0, 8 - rows * vectors) / 8


def fitting_tiles(n_rows: int, n_vectors: int, n_registers: int) -> list[tuple[int, int]]:
    """All even tiles of up to eight vectors that leave a register for a number of a row."""
    heights, widths = (
        {-(-length // n_tiles) for n_tiles in range(1, length + 1)}
        for length in (n_rows, n_vectors)
    )
    return [
        (rows, vectors)
        for rows, vectors in product(heights, widths)
        if vectors <= 8 and rows * vectors + vectors + 1 <= n_registers
    ]


@given(st.integers(1, 400), st.integers(1, 80), N_REGISTERS)
def test_no_even_tile_that_fits_is_better_than_the_first(
    n_rows: int, n_vectors: int, n_registers: int
) -> None:
    tiles = tall_tiles(n_rows, n_vectors, n_registers)
    fitting = fitting_tiles(n_rows, n_vectors, n_registers)
    assert set(tiles) <= set(fitting)
    assert len(set(tiles)) == len(tiles)
    assert cost(tiles[0]) == pytest.approx(min(map(cost, fitting)))
    costs = [cost(tile) for tile in tiles]
    assert costs == sorted(costs)


def test_the_last_tile_becomes_a_run_of_its_own() -> None:
    runs = (Run(0, 2, 14), Run(28, 13, 13))
    assert last_apart(runs) == (Run(0, 2, 14), Run(28, 12, 13), Run(184, 1, 13))
    assert last_apart((Run(0, 3, 4),)) == (Run(0, 2, 4), Run(8, 1, 4))
    assert last_apart((Run(0, 1, 5),)) == (Run(0, 1, 5),)
    assert last_apart((Run(0, 2, 3), Run(6, 1, 2))) == (Run(0, 2, 3), Run(6, 1, 2))


@given(TOTALS, MOSTS)
def test_the_last_tile_apart_changes_no_tile(total: int, most: int) -> None:
    runs = even_runs(total, most)
    apart = last_apart(runs)
    assert tiles_of(apart) == tiles_of(runs)
    assert apart[-1].count == 1
    assert all(run.count for run in apart)


@pytest.mark.parametrize(
    ("length", "lanes", "expected"),
    [
        (24, 16, ((0, 16), (16, 8))),
        (34, 16, ((0, 16), (16, 16), (32, 2))),
        (7, 4, ((0, 4), (4, 2), (6, 1))),
        (11, 16, ((0, 8), (8, 2), (10, 1))),
        (1, 16, ((0, 1),)),
        (0, 8, ()),
    ],
)
def test_lengths_are_cut_into_vectors_as_worked_by_hand(
    length: int, lanes: int, expected: tuple[tuple[int, int], ...]
) -> None:
    assert pieces(length, lanes) == expected


@given(st.integers(0, 600), LANES)
def test_pieces_follow_each_other_and_are_as_few_vectors_of_a_power_of_two_as_can_be(
    length: int, lanes: int
) -> None:
    found = pieces(length, lanes)
    end = 0
    for offset, width in found:
        assert offset == end
        assert is_power_of_two(width)
        end += width
    assert end == length
    widths = [width for _, width in found]
    assert widths == sorted(widths, reverse=True)
    assert max(widths, default=lanes) <= lanes
    # One piece for each bit of the remainder.
    assert len(widths) == length // lanes + (length % lanes).bit_count()


@pytest.mark.parametrize(
    ("n_channels", "lanes", "expected"),
    [
        (1, 16, 4),
        (4, 16, 4),
        (5, 16, 8),
        (8, 16, 8),
        (9, 16, 16),
        (17, 16, 16),
        (3, 8, 4),
        (1000, 8, 8),
        (34, 4, 4),
    ],
)
def test_vectors_are_as_narrow_as_the_channels_allow(
    n_channels: int, lanes: int, expected: int
) -> None:
    assert fitting_lanes(n_channels, lanes) == expected


@pytest.mark.parametrize(
    ("n_channels", "lanes", "expected"),
    [
        (24, 16, (16, 8)),
        (17, 16, (16, 8)),
        (40, 16, (16, 8)),
        (25, 16, (16,)),
        (16, 16, (16,)),
        (9, 16, (16,)),
        (8, 16, (8,)),
        (24, 8, (8,)),
        (4, 8, (4,)),
    ],
)
def test_half_of_64_bytes_is_a_choice_where_less_is_left_over(
    n_channels: int, lanes: int, expected: tuple[int, ...]
) -> None:
    assert lane_choices(n_channels, lanes) == expected


@given(st.integers(1, 2000), LANES)
def test_fitting_lanes_are_the_least_that_hold_all_channels(n_channels: int, lanes: int) -> None:
    widths = [width for width in (4, 8, 16) if n_channels <= width <= lanes]
    assert fitting_lanes(n_channels, lanes) == min(widths, default=lanes)


@given(st.integers(1, 4096), LANES)
def test_a_tile_is_cut_into_the_widest_vectors_of_a_power_of_two(tile: int, lanes: int) -> None:
    vectors, width = vector_split(tile, lanes)
    assert vectors * width == tile
    assert is_power_of_two(width)
    assert width == max(w for w in (1, 2, 4, 8, 16) if w <= lanes and tile % w == 0)


@given(st.integers(1, 2000), st.integers(1, 64))
def test_divisors_are_all_that_divide(value: int, most: int) -> None:
    assert divisors(value, most) == tuple(
        d for d in range(1, most + 1) if d <= value and value % d == 0
    )
