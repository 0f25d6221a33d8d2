"""Sums over an image and element-wise operators: one pass over memory, whole vectors at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import channel_tiles, vector_split
from profiler.target import Target

if TYPE_CHECKING:
    from tvm import s_tir

GLOBAL_RULE = "global"
ELEMENTWISE_RULE = "elementwise"


def global_candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Blocks of channels that are summed over all pixels in registers."""
    tiles = channel_tiles(operator.out_channels, target.lanes, (1, 2, 4, 8))
    most = target.n_vector_registers - 2
    fitting = [tile for tile in tiles if vector_split(tile, target.lanes)[0] <= most]
    return tuple(Schedule(GLOBAL_RULE, (("channels", channels),)) for channels in fitting[-4:])


def elementwise_candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Runs of channels that are done at once."""
    tiles = channel_tiles(operator.out_channels, target.lanes, (1, 4))
    return tuple(Schedule(ELEMENTWISE_RULE, (("channels", channels),)) for channels in tiles[-3:])


def apply_global(schedule: Schedule, sch: s_tir.Schedule, target: Target) -> None:
    """Sum a block of channels over all pixels, then store it."""
    acc, out = sch.get_sblock("acc"), sch.get_sblock("out")
    vectors, n_lanes = vector_split(schedule["channels"], target.lanes)
    *_, channel = sch.get_loops(out)
    block, vector, lane = sch.split(channel, [None, vectors, n_lanes])
    sch.compute_at(acc, block, preserve_unit_loops=True)
    sch.set_scope(acc, 0, "local")
    sch.unroll(vector)
    sch.vectorize(lane)
    channel, ky, kx = sch.get_loops(acc)[-3:]
    vector, lane = sch.split(channel, [vectors, n_lanes])
    sch.reorder(ky, kx, vector, lane)
    sch.unroll(vector)
    sch.vectorize(lane)
    sch.decompose_reduction(acc, ky)


def apply_elementwise(schedule: Schedule, sch: s_tir.Schedule, target: Target) -> None:
    """Pass once over memory."""
    vectors, n_lanes = vector_split(schedule["channels"], target.lanes)
    *_, channel = sch.get_loops(sch.get_sblock("out"))
    _, vector, lane = sch.split(channel, [None, vectors, n_lanes])
    sch.unroll(vector)
    sch.vectorize(lane)
