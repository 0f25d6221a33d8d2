"""Windows that keep channels apart: depthwise convolutions, pooling.

A tile of `pixels` neighbouring outputs x `vectors` of channels stays in registers while the window
passes. `channels_outer` passes over the image once for each block of channels, its opposite once.
"""

from __future__ import annotations

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_size, fitting_lanes
from profiler.target import Target

RULE = "window"
#: Registers for weights and inputs beside the sums.
_N_OTHERS = 4
_MOST_PIXELS = 7


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Long tiles of one vector, shorter ones of more."""
    lanes = min(target.lanes, fitting_lanes(operator.out_channels, target.lanes))
    n_vectors = max(1, operator.out_channels // lanes)
    width = operator.output_shape[2]
    tiles = [
        (even_size(width, min(most, _MOST_PIXELS)), even_size(n_vectors, vectors))
        for vectors in (1, 2, 4)
        for most in ((target.n_vector_registers - _N_OTHERS) // vectors,)
    ]
    return tuple(
        Schedule(
            RULE,
            (
                ("pixels", pixels),
                ("vectors", vectors),
                ("lanes", lanes),
                ("channels_outer", order),
            ),
        )
        for pixels, vectors in dict.fromkeys(tiles)
        for order in (1, 0)
    )
