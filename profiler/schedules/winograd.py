"""Convolutions of 3x3 windows with fewer multiplications.

Minimal filtering, see `profiler.minimal_filtering`: squares of `size` x `size` outputs, in blocks of
`tile_rows` rows of squares whose transformed inputs stay in the second-level cache. The products of
a block are one matrix product for each number of a transformed square, with `rows` squares x
`vectors` of channels in registers.
"""

from __future__ import annotations

from profiler.minimal_filtering import FILTERINGS, Filtering
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs, even_size, tall_tiles
from profiler.target import Target

RULE = "winograd"
#: With fewer channels the transforms cost more than the products that they save.
_LEAST_CHANNELS = 16
#: Of the second-level cache, for what one block transforms; weights pass through the rest.
_SHARE_OF_CACHE = 0.5


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Both sizes of squares where they can win; none elsewhere."""
    if not applies(operator) or min(operator.input_shape[3], operator.out_channels) < max(
        _LEAST_CHANNELS, target.lanes
    ):
        return ()
    return tuple(_schedule(operator, target, size) for size in sorted(FILTERINGS, reverse=True))


def applies(operator: Operator) -> bool:
    """Whether the operator is a convolution that minimal filtering computes."""
    return (
        operator.kind == "conv2d"
        and operator.kernel == (3, 3)
        and operator.stride == operator.dilation == (1, 1)
        and operator.groups == 1
        and max(operator.padding) <= 2  # with more, whole squares would lie outside
    )


def _schedule(operator: Operator, target: Target, size: int) -> Schedule:
    _, height, width, _ = operator.output_shape
    n_rows, n_columns = -(-height // size), -(-width // size)
    n_vectors = -(-operator.out_channels // target.lanes)
    most = _most_tile_rows(operator, target, FILTERINGS[size], n_columns)
    tile_rows = even_size(n_rows, min(n_rows, most))
    rows, vectors = tall_tiles(tile_rows * n_columns, n_vectors, target.n_vector_registers)[0]
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


def _most_tile_rows(
    operator: Operator, target: Target, filtering: Filtering, n_columns: int
) -> int:
    """Rows of squares whose transformed inputs fit the cache's share; at least one."""
    row_bytes = 4 * filtering.n_products * n_columns * operator.input_shape[3]
    return max(1, int(_SHARE_OF_CACHE * target.l2_bytes) // row_bytes)
