"""Matrix products with packed panels: pointwise convolutions and dense layers.

A tile of `rows` x `vectors` sums stays in registers while the reduction runs; bias, residual and
activation are applied as the tile is stored. `panels_outer` keeps one panel of weights in the
nearest caches while all rows pass, its opposite keeps rows there while all panels pass.
"""

from __future__ import annotations

import math

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import in_orders, lane_choices, tall_tiles
from profiler.target import Target

RULE = "gemm"
_N_TILES = 4
#: Of vectors half as wide.
_N_NARROW_TILES = 2


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Tiles whose sums fit the registers, those with most work a load first."""
    widest, *narrower = lane_choices(operator.out_channels, target.lanes)
    found = _of_lanes(operator, target, widest, _N_TILES, 2)
    for lanes in narrower:
        found += _of_lanes(operator, target, lanes, _N_NARROW_TILES, 0)
    return found


def _of_lanes(
    operator: Operator, target: Target, lanes: int, n_tiles: int, n_both: int
) -> tuple[Schedule, ...]:
    rows = math.prod(operator.input_shape[:3])
    n_vectors = -(-operator.out_channels // lanes)
    tiles = tall_tiles(rows, n_vectors, target.n_vector_registers)[:n_tiles]

    def has_two_orders(tile: tuple[int, int]) -> bool:
        return tile[0] < rows and tile[1] < n_vectors

    return tuple(
        Schedule(
            RULE,
            (("rows", n_rows), ("vectors", vectors), ("lanes", lanes), ("panels_outer", order)),
        )
        for order, (n_rows, vectors) in in_orders(tiles, n_both, has_two_orders)
    )
