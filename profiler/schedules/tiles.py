"""Numbers that schedules are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

#: Sums that must be under way to hide the latency of a fused multiply-add: 4 cycles, 2 units.
_SUMS_IN_FLIGHT: Final = 8
_MOST_VECTORS: Final = 8
#: Of 64 bytes.
_WIDE_LANES: Final = 16
#: The narrowest vectors that processors have.
_LEAST_LANES: Final = 4


@dataclass(frozen=True, slots=True)
class Run:
    """Tiles of one size that follow each other.

    Attributes:
        start: The first number of the first tile.
        count: How many tiles.
        size: Numbers in each.
    """

    start: int
    count: int
    size: int

    @property
    def end(self) -> int:
        """One past the last number."""
        return self.start + self.count * self.size


def even_runs(total: int, most: int) -> tuple[Run, ...]:
    """Cut a length into as few tiles of at most `most` as can be, as equal as can be.

    Nothing is left over and no tile is small: 197 rows in tiles of up to 14 are two of 14 and
    thirteen of 13.
    """
    n_tiles = -(-total // most)
    size, n_larger = divmod(total, n_tiles)
    larger = Run(0, n_larger, size + 1)
    runs = (larger, Run(larger.end, n_tiles - n_larger, size))
    return tuple(run for run in runs if run.count)


def even_size(total: int, most: int) -> int:
    """The larger size of `even_runs`."""
    return -(-total // -(-total // most))


def tall_tiles(n_rows: int, n_vectors: int, n_registers: int) -> tuple[tuple[int, int], ...]:
    """Tiles (rows, vectors) of sums of products that fit the registers, the best first.

    A step multiplies one number of each row with a few vectors of weights. The best need fewest
    loads a product and have enough sums under way to hide the multipliers' latency.
    """
    found = {}
    for most in range(1, _MOST_VECTORS + 1):
        vectors = even_size(n_vectors, most)
        # Beside the sums: the vectors of weights, and one number of a row in all lanes.
        most_rows = (n_registers - vectors - 1) // vectors
        if most_rows < 1:
            break
        rows = even_size(n_rows, most_rows)
        n_sums = rows * vectors
        idle = max(0, _SUMS_IN_FLIGHT - n_sums) / _SUMS_IN_FLIGHT
        found[rows, vectors] = (rows + vectors) / n_sums + idle
    return tuple(sorted(found, key=lambda tile: (found[tile], -tile[0])))


def in_orders(
    tiles: Sequence[tuple[int, int]], n_both: int, has_two: Callable[[tuple[int, int]], bool]
) -> list[tuple[int, tuple[int, int]]]:
    """Each tile with panels outside (1), the first few with rows outside, too (0).

    Which loop is the outer one matters little, and hardly depends on the tile.

    Args:
        tiles: The best first.
        n_both: Tiles that get both orders, at most.
        has_two: Whether the orders of a tile are two: with one panel, or one row, they are not.
    """
    inside = [(0, tile) for tile in tiles[:n_both] if has_two(tile)]
    return [(1, tile) for tile in tiles] + inside


def unevenness(loads: Sequence[int], n: int) -> float:
    """What the task with most work has over a fair share, when n tasks share tiles in order."""
    bounds = [task * len(loads) // n for task in range(n + 1)]
    most = max(sum(loads[a:b]) for a, b in pairwise(bounds))
    return most * n / sum(loads)


def best_shared(extents: Sequence[int], n: int) -> int:
    """Which of some nested loops n tasks share: of those that divide best the outermost."""
    return min(range(len(extents)), key=lambda i: -(-extents[i] // n) * n / extents[i])


def last_apart(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """The same tiles with the last one as a run of its own."""
    *first, last = runs
    if last.count == 1:
        return runs
    return (
        *first,
        Run(last.start, last.count - 1, last.size),
        Run(last.end - last.size, 1, last.size),
    )


def pieces(length: int, lanes: int) -> tuple[tuple[int, int], ...]:
    """Cut a length into vectors of `lanes` and then of ever smaller powers of two.

    Vectors of other widths are no type of any processor: 24 numbers as one vector took 20 times as
    long as 16 and 8.

    Returns:
        (offset, lanes) of each.
    """
    found = []
    offset = 0
    while lanes:
        while length - offset >= lanes:
            found.append((offset, lanes))
            offset += lanes
        lanes //= 2
    return tuple(found)


def fitting_lanes(n_channels: int, lanes: int) -> int:
    """Lanes of the narrowest vectors that hold all channels at once, `lanes` where none does."""
    return min(lanes, max(_LEAST_LANES, 1 << (n_channels - 1).bit_length()))


def lane_choices(n_channels: int, target_lanes: int) -> tuple[int, ...]:
    """Lanes worth trying for so many channels, the widest first.

    Where vectors of 64 bytes take two cycles, as on AMD's Zen 4, those of 32 do as much in a cycle,
    and may hold the channels with less left over: 24 are three of 8, and one and a half of 16.
    """
    lanes = fitting_lanes(n_channels, target_lanes)
    half = lanes // 2
    if lanes < _WIDE_LANES or _rounded_up(n_channels, half) == _rounded_up(n_channels, lanes):
        return (lanes,)
    return (lanes, half)


def _rounded_up(length: int, lanes: int) -> int:
    return -(-length // lanes) * lanes


def whole_lanes(length: int, lanes: int) -> int:
    """Lanes of the widest vectors of which a length holds at least one."""
    return min(lanes, 1 << (length.bit_length() - 1))


def vector_split(tile: int, lanes: int) -> tuple[int, int]:
    """Split a tile into (vectors, lanes): whole ones, or of the largest power of two that fits."""
    fitting = min(tile & -tile, lanes)  # its lowest bit is the largest power of two that divides it
    return tile // fitting, fitting


def divisors(value: int, most: int) -> tuple[int, ...]:
    """Divisors of value up to most, ascending."""
    return tuple(d for d in range(1, min(value, most) + 1) if value % d == 0)
