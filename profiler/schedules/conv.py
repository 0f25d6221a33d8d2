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
    tiles = tall_tiles(operator.output_shape[2], -(-width // lanes), target.n_vector_registers)
    return tuple(
        Schedule(
            RULE,
            (("pixels", pixels), ("vectors", vectors), ("lanes", lanes), ("panels_outer", order)),
        )
        for order, (pixels, vectors) in in_orders(tiles[:_N_TILES], n_both=1)
    )
