"""Matrix products with packed panels: pointwise convolutions and dense layers.

A tile of `rows` x `channels` sums stays in registers while the reduction runs; bias, residual and
activation are applied as the tile is stored. `panels_outer` keeps one panel of weights in the
first-level cache while all rows pass, its opposite keeps rows there while all panels pass.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import channel_tiles, divisors, vector_split
from profiler.target import Target

if TYPE_CHECKING:
    from tvm import s_tir

RULE = "gemm"


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Tiles whose sums fit the registers, those with most work a load first."""
    rows = math.prod(operator.input_shape[:3])
    found = []
    for channels in channel_tiles(operator.out_channels, target.lanes, (1, 2, 3, 4, 8)):
        n_vectors, _ = vector_split(channels, target.lanes)
        for n_rows in divisors(rows, 8):
            n_sums = n_rows * n_vectors
            if n_sums > target.n_vector_registers - 2:
                continue
            # Loads of a step (rows broadcast, vectors of the panel) for each multiply-add.
            loads_per_sum = (n_rows + n_vectors) / n_sums
            latency_gap = max(0.0, 8 - n_sums) / 8  # too few sums leave the multipliers waiting
            found.append((loads_per_sum + latency_gap, n_rows, channels))
    tiles = [(n_rows, channels) for _, n_rows, channels in sorted(found)[:4]]
    orders = (0, 1) if rows > 8 else (1,)
    return tuple(
        Schedule(RULE, (("rows", n_rows), ("channels", channels), ("panels_outer", order)))
        for n_rows, channels in tiles
        for order in orders
    )


def apply(schedule: Schedule, sch: s_tir.Schedule, target: Target) -> None:
    """Lay out the loops of `acc` and `out`."""
    acc, out = sch.get_sblock("acc"), sch.get_sblock("out")
    vectors, lanes = vector_split(schedule["channels"], target.lanes)
    i, j = sch.get_loops(out)
    i_outer, i_inner = sch.split(i, [None, schedule["rows"]])
    j_outer, j_vector, j_lane = sch.split(j, [None, vectors, lanes])
    outer = [j_outer, i_outer] if schedule["panels_outer"] else [i_outer, j_outer]
    sch.reorder(*outer, i_inner, j_vector, j_lane)
    sch.compute_at(acc, outer[-1], preserve_unit_loops=True)
    sch.set_scope(acc, 0, "local")
    keep_in_registers(sch, out, n_rows_loops=1)
    row, channel, k = sch.get_loops(acc)[-3:]
    vector, lane = sch.split(channel, [vectors, lanes])
    sch.reorder(k, row, vector, lane)
    for loop in (row, vector):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.decompose_reduction(acc, k)


def keep_in_registers(sch: s_tir.Schedule, block: s_tir.SBlockRV, n_rows_loops: int) -> None:
    """Unroll a tile's row and vector loops and vectorize its lanes."""
    *_, lane = loops = sch.get_loops(block)
    for loop in loops[-2 - n_rows_loops : -1]:
        sch.unroll(loop)
    sch.vectorize(lane)
