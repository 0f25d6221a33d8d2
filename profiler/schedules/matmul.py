"""Products of two tensors that the network computes, neither of which is packed.

Tiles as those of `gemm`; `panels_outer` keeps columns of the right factor near while all rows pass,
its opposite keeps rows of the left one there while all columns pass.
"""

from __future__ import annotations

from typing import Final

from profiler.generic import LoopForm
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import in_orders, tall_tiles, whole_lanes
from profiler.target import Target

RULE: Final = "matmul"
_N_TILES = 4


def candidates(form: LoopForm, target: Target) -> tuple[Schedule, ...]:
    """Tiles whose sums fit the registers, those with most work a load first."""
    lanes = whole_lanes(form.n_columns, target.lanes)
    n_vectors = -(-form.n_columns // lanes)
    tiles = tall_tiles(form.n_rows, n_vectors, target.n_vector_registers)[:_N_TILES]

    def has_two_orders(tile: tuple[int, int]) -> bool:
        return tile[0] < form.n_rows and tile[1] < n_vectors

    return tuple(
        Schedule(
            RULE,
            (("rows", n_rows), ("vectors", vectors), ("lanes", lanes), ("panels_outer", order)),
        )
        for order, (n_rows, vectors) in in_orders(tiles, 1, has_two_orders)
    )
