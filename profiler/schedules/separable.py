"""A depthwise convolution and the pointwise one that reads it, in one pass over the image.

The depthwise half writes `band` rows of its output into memory that stays in a cache, and the
pointwise half multiplies them before the next band. The halves have the tiles of the rules
`window` and `gemm`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from profiler.operator import Operator
from profiler.schedules import gemm, window
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_size
from profiler.target import Target

RULE = "separable"
#: What `window` calls a tile's vectors and lanes is told from what `gemm` calls so.
_DEPTHWISE: Final = "depth_"
_SHARED: Final = ("vectors", "lanes")
#: Tiles of each half that are tried.
_N_TILES: Final = 2


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """The best tiles of both halves in bands of a few sizes, one of which is often the whole image.

    Blocks of channels are passed one after another, rows one after another in the smallest band
    alone: there they were fastest at times, with large bands they took up to twice as long.
    """
    tiles = window.candidates(operator.depthwise, target)
    by_channels = [tile for tile in tiles if tile["channels_outer"]][:_N_TILES]
    by_rows = [tile for tile in tiles if not tile["channels_outer"]][:_N_TILES]
    found = []
    sizes = bands(operator, target)
    for band in sizes:
        products = _products(of_band(operator, band), target)
        found += [join(tile, product, band) for product in products for tile in by_channels]
    found += [join(tile, products[0], sizes[-1]) for tile in by_rows]
    return tuple(dict.fromkeys(found))


def _products(pointwise: Operator, target: Target) -> list[Schedule]:
    """The best tiles of the pointwise half, also of narrower vectors where those are tried."""
    listed = gemm.candidates(pointwise, target)
    narrower = [schedule for schedule in listed if schedule["lanes"] < listed[0]["lanes"]]
    return [*listed[:_N_TILES], *narrower[:1]]


def join(depthwise: Schedule, pointwise: Schedule, band: int) -> Schedule:
    """The schedule of both halves, in bands of at most so many rows."""
    first = tuple(
        (f"{_DEPTHWISE}{name}" if name in _SHARED else name, value)
        for name, value in depthwise.parameters
    )
    return Schedule(RULE, (("band", band), *first, *pointwise.parameters))


def halves(schedule: Schedule) -> tuple[Schedule, Schedule]:
    """The schedules of the depthwise and of the pointwise half."""
    names = ("pixels", f"{_DEPTHWISE}vectors", f"{_DEPTHWISE}lanes", "channels_outer")
    first = tuple((name.removeprefix(_DEPTHWISE), schedule[name]) for name in names)
    others = {"band", *names}
    second = tuple(pair for pair in schedule.parameters if pair[0] not in others)
    return Schedule(window.RULE, first), Schedule(gemm.RULE, second)


def bands(operator: Operator, target: Target) -> tuple[int, ...]:
    """Numbers of rows whose depthwise outputs fill a share of a cache, the likeliest first."""
    _, n_rows, width, channels = operator.pointwise.input_shape
    row_bytes = 4 * width * channels
    most = (target.l2_bytes // 8, target.l2_bytes // 2, target.l1_bytes)
    return tuple(dict.fromkeys(even_size(n_rows, max(1, n_bytes // row_bytes)) for n_bytes in most))


def of_band(operator: Operator, n_rows: int) -> Operator:
    """The pointwise half of one band."""
    _, _, width, channels = operator.pointwise.input_shape
    return replace(operator.pointwise, input_shape=(1, n_rows, width, channels))
