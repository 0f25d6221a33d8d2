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
#: Tiles of the depthwise half that are tried, of the pointwise half in each band, and in all bands.
_N_DEPTHWISE: Final = 2
_LEAST_POINTWISE: Final = 2
_N_POINTWISE: Final = 6


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """The best tiles of both halves in bands of a few sizes, one of which is often the whole image.

    Blocks of channels are passed one after another: rows one after another never won, and took up
    to twice as long.
    """
    # Sums in half of the registers: fewer leave the multipliers idle, more leave none for inputs,
    # which large windows and strides need most.
    most = target.n_vector_registers // 2
    tiles = sorted(
        (tile for tile in window.candidates(operator.depthwise, target) if tile["channels_outer"]),
        key=lambda tile: (_n_sums(tile) > most, abs(_n_sums(tile) - most)),
    )[:_N_DEPTHWISE]
    found = []
    sizes = bands(operator, target)
    n_products = max(_LEAST_POINTWISE, _N_POINTWISE // len(sizes))
    for band in sizes:
        products = _products(of_band(operator, band), target, n_products)
        found += [join(tile, product, band) for product in products for tile in tiles]
    return tuple(dict.fromkeys(found))


def _n_sums(tile: Schedule) -> int:
    return tile["pixels"] * tile["vectors"]


def _products(pointwise: Operator, target: Target, n: int) -> list[Schedule]:
    """The best tiles of the pointwise half, also of narrower vectors where those are tried."""
    listed = gemm.candidates(pointwise, target)
    narrower = [schedule for schedule in listed if schedule["lanes"] < listed[0]["lanes"]][:1]
    return [*listed[: n - len(narrower)], *narrower]


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
    """Numbers of rows whose depthwise outputs fill a share of a cache, the likeliest first.

    Each band reads the weights of the pointwise half anew: bands that fill the nearest cache are
    for weights that fit there beside them.
    """
    _, n_rows, width, channels = operator.pointwise.input_shape
    row_bytes = 4 * width * channels
    most = [target.l2_bytes // 8, target.l2_bytes // 2]
    if operator.pointwise.weight_bytes <= target.l1_bytes:
        most.append(target.l1_bytes)
    return tuple(dict.fromkeys(even_size(n_rows, max(1, n_bytes // row_bytes)) for n_bytes in most))


def of_band(operator: Operator, n_rows: int) -> Operator:
    """The pointwise half of one band."""
    _, _, width, channels = operator.pointwise.input_shape
    return replace(operator.pointwise, input_shape=(1, n_rows, width, channels))
