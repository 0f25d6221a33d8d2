"""Windows over an image: general convolutions, depthwise convolutions, pooling.

A tile of `pixels` neighbouring outputs x `channels` stays in registers while the window passes.
Padding is made once for the whole input (`pad_at` 0), for a block of channels (1) or for the rows
that one row of outputs reads (2), so that the padded copy stays in the nearest cache it fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import channel_tiles, divisors, vector_split
from profiler.target import Target

if TYPE_CHECKING:
    from tvm import s_tir

CONV_RULE = "conv"
WINDOW_RULE = "window"
PAD_ONCE, PAD_CHANNELS, PAD_ROWS = 0, 1, 2


def conv_candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Tiles for a convolution that mixes channels."""
    found = []
    # No tile reaches into the next group: its sums read the same inputs.
    width = operator.out_channels // operator.groups
    for channels in channel_tiles(width, target.lanes, (1, 2, 4)):
        n_vectors, _ = vector_split(channels, target.lanes)
        for pixels in divisors(operator.output_shape[2], 8):
            n_sums = pixels * n_vectors
            if n_sums <= target.n_vector_registers - 2:
                gap = max(0.0, 8 - n_sums) / 8
                found.append(((pixels + n_vectors) / n_sums + gap, pixels, channels))
    pads = (PAD_ONCE, PAD_ROWS) if any(operator.padding) else (PAD_ONCE,)
    return tuple(
        Schedule(CONV_RULE, (("pixels", pixels), ("channels", channels), ("pad_at", pad)))
        for _, pixels, channels in sorted(found)[:4]
        for pad in pads
    )


def window_candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Tiles for depthwise convolutions and pooling."""
    found = []
    for channels in channel_tiles(operator.out_channels, target.lanes, (1, 2, 4)):
        n_vectors, _ = vector_split(channels, target.lanes)
        for pixels in divisors(operator.output_shape[2], 8):
            n_sums = pixels * n_vectors
            if n_sums <= target.n_vector_registers - 4:
                found.append((abs(n_sums - 6), -pixels, channels))
    pads = (PAD_CHANNELS, PAD_ONCE) if any(operator.padding) else (PAD_ONCE,)
    return tuple(
        Schedule(WINDOW_RULE, (("pixels", -pixels), ("channels", channels), ("pad_at", pad)))
        for _, pixels, channels in sorted(found)[:3]
        for pad in pads
    )


def apply_conv(schedule: Schedule, sch: s_tir.Schedule, target: Target, *, padded: bool) -> None:
    """Lay out a convolution: window rows and columns outside, input channels inside."""
    acc, outer = _tile_output(schedule, sch, target)
    ky, kx, k = sch.get_loops(acc)[-3:]
    pixel, lanes = _tile_sums(schedule, sch, target, n_reductions=3)
    sch.reorder(ky, kx, k, pixel, *lanes)
    sch.unroll(kx)
    _keep(sch, pixel, lanes)
    _place_padding(schedule, sch, outer, padded=padded)
    sch.decompose_reduction(acc, ky)


def apply_window(schedule: Schedule, sch: s_tir.Schedule, target: Target, *, padded: bool) -> None:
    """Lay out a window that keeps channels apart: all its positions unrolled around the tile."""
    acc, outer = _tile_output(schedule, sch, target)
    ky, kx = sch.get_loops(acc)[-2:]
    pixel, lanes = _tile_sums(schedule, sch, target, n_reductions=2)
    sch.reorder(ky, kx, pixel, *lanes)
    sch.unroll(ky)
    sch.unroll(kx)
    _keep(sch, pixel, lanes)
    _place_padding(schedule, sch, outer, padded=padded)
    sch.decompose_reduction(acc, ky)


def _tile_output(
    schedule: Schedule, sch: s_tir.Schedule, target: Target
) -> tuple[s_tir.SBlockRV, tuple[s_tir.LoopRV, ...]]:
    """Tile `out` as (batch, channel block, row, pixel tile) and put the sums at each tile."""
    acc, out = sch.get_sblock("acc"), sch.get_sblock("out")
    vectors, n_lanes = vector_split(schedule["channels"], target.lanes)
    batch, row, column, channel = sch.get_loops(out)
    tile, pixel = sch.split(column, [None, schedule["pixels"]])
    block, vector, lane = sch.split(channel, [None, vectors, n_lanes])
    if schedule["pad_at"] == PAD_ROWS:
        outer = (batch, row, block, tile)
    else:
        outer = (batch, block, row, tile)
    sch.reorder(*outer, pixel, vector, lane)
    sch.compute_at(acc, tile, preserve_unit_loops=True)
    sch.set_scope(acc, 0, "local")
    sch.unroll(pixel)
    sch.unroll(vector)
    sch.vectorize(lane)
    return acc, (batch, row if schedule["pad_at"] == PAD_ROWS else block)


def _tile_sums(
    schedule: Schedule, sch: s_tir.Schedule, target: Target, n_reductions: int
) -> tuple[s_tir.LoopRV, tuple[s_tir.LoopRV, s_tir.LoopRV]]:
    loops = sch.get_loops(sch.get_sblock("acc"))
    pixel, channel = loops[-n_reductions - 2], loops[-n_reductions - 1]
    vectors, n_lanes = vector_split(schedule["channels"], target.lanes)
    vector, lane = sch.split(channel, [vectors, n_lanes])
    return pixel, (vector, lane)


def _keep(
    sch: s_tir.Schedule, pixel: s_tir.LoopRV, lanes: tuple[s_tir.LoopRV, s_tir.LoopRV]
) -> None:
    sch.unroll(pixel)
    sch.unroll(lanes[0])
    sch.vectorize(lanes[1])


def _place_padding(
    schedule: Schedule, sch: s_tir.Schedule, outer: tuple[s_tir.LoopRV, ...], *, padded: bool
) -> None:
    if not padded:
        return
    pad = sch.get_sblock("pad")
    if schedule["pad_at"] != PAD_ONCE:
        sch.compute_at(pad, outer[-1], preserve_unit_loops=True)
    *_, channel = sch.get_loops(pad)
    sch.vectorize(channel)
