"""Convolutions of 3x3 windows with fewer multiplications.

Minimal filtering, see `profiler.minimal_filtering`: squares of `size` x `size` outputs, in blocks
of `tile_rows` rows of squares. The products of a block are one matrix product for each number of a
transformed square, with `rows` squares x `vectors` of channels in registers.
"""

from __future__ import annotations

from typing import Final

from profiler.minimal_filtering import FILTERINGS
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_size, tall_tiles
from profiler.target import Target

RULE = "winograd"
#: With fewer the transforms cost more than the products that they save.
_LEAST_CHANNELS: Final = 16
#: Parts of the second-level cache that the transformed inputs of a block fill: a small one where
#: the weights stay there beside them, a large one where every block reads the weights anew.
_SMALL_BLOCK: Final = 1 / 16
_LARGE_BLOCK: Final = 1 / 2
#: A matrix product of fewer rows takes longer for each of them.
_LEAST_SQUARES: Final = 14
#: Outputs up to which the many that larger squares compute for nothing, and their larger weights,
#: can cost more than the products that they save.
_FEW_PIXELS: Final = 14 * 14


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Both sizes of blocks, the second-best tile; for few pixels small squares, too.

    None for another kind of operator, and for few channels.
    """
    least = max(_LEAST_CHANNELS, target.lanes)  # the transforms work in whole vectors
    if not _applies(operator) or min(operator.input_shape[3], operator.out_channels) < least:
        return ()
    orders = [(_LARGE_BLOCK, 0), (_SMALL_BLOCK, 0)]
    weight_bytes = 4 * FILTERINGS[4].n_products * operator.input_shape[3] * operator.out_channels
    if 2 * weight_bytes <= target.l2_bytes:
        orders.reverse()
    orders.append((orders[0][0], 1))
    found = [_schedule(operator, target, 4, share, choice) for share, choice in orders]
    _, height, width, _ = operator.output_shape
    if height * width <= _FEW_PIXELS:
        found.append(_schedule(operator, target, 2, _LARGE_BLOCK, 0))
    return tuple(dict.fromkeys(found))


def _applies(operator: Operator) -> bool:
    """Whether the operator is a convolution that minimal filtering computes."""
    return (
        operator.kind == "conv2d"
        and operator.kernel == (3, 3)
        and operator.stride == operator.dilation == (1, 1)
        and operator.groups == 1
        and max(operator.padding) <= 2  # with more, whole windows lie outside
    )


def _schedule(operator: Operator, target: Target, size: int, share: float, choice: int) -> Schedule:
    """A block that fills a share of the cache, with the tile of this place in `tall_tiles`."""
    _, height, width, _ = operator.output_shape
    n_rows, n_columns = -(-height // size), -(-width // size)
    row_bytes = 4 * FILTERINGS[size].n_products * n_columns * operator.input_shape[3]
    least = -(-_LEAST_SQUARES // n_columns)
    tile_rows = even_size(n_rows, max(least, int(share * target.l2_bytes) // row_bytes))
    n_vectors = -(-operator.out_channels // target.lanes)
    tiles = tall_tiles(tile_rows * n_columns, n_vectors, target.n_vector_registers)
    rows, vectors = tiles[min(choice, len(tiles) - 1)]
    return Schedule(
        RULE,
        (
            ("size", size),
            ("tile_rows", tile_rows),
            ("rows", rows),
            ("vectors", vectors),
            ("lanes", target.lanes),
        ),
    )
