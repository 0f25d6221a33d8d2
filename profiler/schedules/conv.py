"""Convolutions that mix channels.

A tile of `pixels` neighbouring outputs x `vectors` of channels stays in registers while the window
passes. At the border of the image only the taps that lie on it are written. `panels_outer` keeps
one panel of weights near while all rows pass, its opposite keeps rows there while all panels pass.
"""

from __future__ import annotations

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import in_orders, lane_choices, tall_tiles
from profiler.target import Target

RULE = "conv"
_N_TILES = 3
#: Of vectors half as wide.
_N_NARROW_TILES = 1


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Tiles whose sums fit the registers, those with most work a load first."""
    # No tile reaches into the next group: its sums read the same inputs.
    width = operator.out_channels // operator.groups
    widest, *narrower = lane_choices(width, target.lanes)
    found = _of_lanes(operator, target, widest, _N_TILES, 1)
    for lanes in narrower:
        found += _of_lanes(operator, target, lanes, _N_NARROW_TILES, 0)
    return found


def _of_lanes(
    operator: Operator, target: Target, lanes: int, n_tiles: int, n_both: int
) -> tuple[Schedule, ...]:
    n_vectors = -(-(operator.out_channels // operator.groups) // lanes)
    _, n_rows, n_pixels, _ = operator.output_shape
    tiles = tall_tiles(n_pixels, n_vectors, target.n_vector_registers)[:n_tiles]

    def has_two_orders(tile: tuple[int, int]) -> bool:
        return n_rows > 1 and (operator.groups > 1 or tile[1] < n_vectors)

    return tuple(
        Schedule(
            RULE,
            (("pixels", pixels), ("vectors", vectors), ("lanes", lanes), ("panels_outer", order)),
        )
        for order, (pixels, vectors) in in_orders(tiles, n_both, has_two_orders)
    )
