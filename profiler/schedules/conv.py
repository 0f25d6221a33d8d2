"""Convolutions that mix channels.

A tile of `pixels` neighbouring outputs x `vectors` of channels stays in registers while the window
passes. At the border of the image only the taps that lie on it are written. `panels_outer` keeps
one panel of weights near while all rows pass, its opposite keeps rows there while all panels pass.
"""

from __future__ import annotations

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import fitting_lanes, in_orders, tall_tiles
from profiler.target import Target

RULE = "conv"
_N_TILES = 3


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Tiles whose sums fit the registers, those with most work a load first."""
    # No tile reaches into the next group: its sums read the same inputs.
    width = operator.out_channels // operator.groups
    lanes = fitting_lanes(width, target.lanes)
    n_vectors = -(-width // lanes)
    _, n_rows, n_pixels, _ = operator.output_shape
    tiles = tall_tiles(n_pixels, n_vectors, target.n_vector_registers)[:_N_TILES]

    def has_two_orders(tile: tuple[int, int]) -> bool:
        return n_rows > 1 and (operator.groups > 1 or tile[1] < n_vectors)

    return tuple(
        Schedule(
            RULE,
            (("pixels", pixels), ("vectors", vectors), ("lanes", lanes), ("panels_outer", order)),
        )
        for order, (pixels, vectors) in in_orders(tiles, 1, has_two_orders)
    )
