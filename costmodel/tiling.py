"""What a schedule makes of an operator on a target: tiles, loads, waste, bytes beside caches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiler.layout import is_pointwise
from profiler.minimal_filtering import FILTERINGS
from profiler.operator import KINDS, Operator
from profiler.schedules import separable, winograd
from profiler.schedules.schedule import CHANNEL_TASKS, ROW_TASKS, Schedule
from profiler.target import Target

#: Of a core's pipeline, as most out-of-order ones have it: fused multiply-adds and loads a cycle,
#: cycles until a sum can be added to, cycles to start and store a tile. Only ratios matter.
_PRODUCTS_A_CYCLE: Final = 2
_LOADS_A_CYCLE: Final = 2
_SUM_CYCLES: Final = 4
_TILE_CYCLES: Final = 20
#: Bytes a cycle from the second-level cache, and from what lies beyond it.
_L2_BYTES_A_CYCLE: Final = 32
_FAR_BYTES_A_CYCLE: Final = 8
#: Distances between rows that are a multiple of this share a few sets of a cache.
_PAGE_BYTES: Final = 4096

RULES: Final = (
    "gemm", "conv", "winograd", "window", "separable", "mean", "once", "matmul", "rowwise",
    "generic",
)  # fmt: skip
#: Columns of which the least value of an operator's candidates is taken off in columns of their
#: own: trees cannot compare rows.
COMPARED: Final = ("log_cycles", "loads_per_product", "log_sums", "log_far_bytes", "registers")
TILING_NAMES: Final[tuple[str, ...]] = (
    "rule", "kind", "position", "log_products", "log_cycles",
    "log_rows", "log_vectors", "log_depth", "log_outer", "log_stride",
    "tile_rows", "mean_rows", "tile_vectors", "mean_vectors", "n_row_tiles", "n_column_tiles",
    "row_sizes", "vector_sizes", "lanes", "idle_lanes",
    "log_sums", "idle_sums", "registers", "loads_per_product",
    "order", "panel_l1", "panel_l2", "weights_l2", "rows_l1", "inputs_l2", "log_far_bytes",
    "row_conflict", "size", "block_l2", "outside", "row_tasks", "channel_tasks",
    *(f"more_{name}" for name in COMPARED),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Nest:
    """A schedule's loops, as what all rules have in common.

    Attributes:
        n_outer: How often the rest is done: images, rows of an image, matrices.
        n_rows: Numbers along the first side of the tiles: rows, or pixels of an image's row.
        n_vectors: Vectors along the other side.
        depth: Terms of each sum.
        rows, vectors, lanes: Of a tile, at most.
        order: 1 where panels (or channels) are the outer loop, 0 where rows are, else -1.
        input_bytes, weight_bytes: What is read.
        n_tasks: Parts that threads work on at once.
        work: Beside the products: passes over single vectors.
    """

    n_outer: int
    n_rows: int
    n_vectors: int
    depth: int
    rows: int
    vectors: int
    lanes: int
    order: int
    input_bytes: int
    weight_bytes: int
    n_tasks: int
    work: float = 0.0

    @property
    def n_row_tiles(self) -> int:
        """Tiles along the rows."""
        return -(-self.n_rows // self.rows)

    @property
    def n_column_tiles(self) -> int:
        """Tiles along the vectors."""
        return -(-self.n_vectors // self.vectors)

    @property
    def mean_rows(self) -> float:
        """Rows of a tile, on average."""
        return self.n_rows / self.n_row_tiles

    @property
    def mean_vectors(self) -> float:
        """Vectors of a tile, on average."""
        return self.n_vectors / self.n_column_tiles


def read_nest(operator: Operator, target: Target, schedule: Schedule) -> Nest:
    """The loops that a schedule makes of an operator."""
    options = dict(schedule.parameters)
    lanes = max(options.get("lanes", target.lanes), 1)
    order = options.get("panels_outer", options.get("channels_outer", -1))
    rows = max(options.get("rows", options.get("pixels", 1)), 1)
    vectors = max(options.get("vectors", 1), 1)
    sizes = operator.input_bytes, operator.weight_bytes
    if operator.body is not None:
        n_outer, n_rows, n_columns, depth = _extents(operator)
        n_vectors = -(-n_columns // lanes)
        return Nest(
            n_outer, n_rows, n_vectors, depth, rows, vectors, lanes, order, *sizes, schedule.n_tasks
        )
    batch, height, width, depth = operator.input_shape
    _, out_height, out_width, out_channels = operator.output_shape
    channels = out_channels // operator.groups
    nest = Nest(
        batch * out_height * operator.groups,
        out_width,
        -(-channels // lanes),
        math.prod(operator.kernel),
        rows,
        vectors,
        lanes,
        order,
        *sizes,
        schedule.n_tasks,
    )
    if schedule.rule == winograd.RULE:
        return _read_winograd(operator, schedule, nest)
    if schedule.rule == separable.RULE:
        return _read_separable(operator, schedule, nest)
    if is_pointwise(operator):
        return replace(nest, n_outer=1, n_rows=batch * height * width, depth=depth)
    if operator.kind == "global_avg_pool2d":
        return replace(nest, n_outer=batch, n_rows=1, depth=height * width)
    n_inputs = depth // operator.groups if operator.kind == "conv2d" else 1
    return replace(nest, depth=nest.depth * n_inputs)


def _read_separable(operator: Operator, schedule: Schedule, nest: Nest) -> Nest:
    batch, height, width, depth = operator.pointwise.input_shape
    first, _ = separable.halves(schedule)
    work = operator.depthwise.n_macs / first["lanes"]
    return replace(nest, n_outer=batch, n_rows=height * width, depth=depth, work=work)


def _read_winograd(operator: Operator, schedule: Schedule, nest: Nest) -> Nest:
    batch, _, _, depth = operator.input_shape
    _, height, width, _ = operator.output_shape
    filtering = FILTERINGS[schedule["size"]]
    n_down, n_across = -(-height // filtering.size), -(-width // filtering.size)
    n_blocks = -(-n_down // schedule["tile_rows"])
    n_squares = batch * n_down * n_across
    # Both transforms go over side x side numbers twice, with about half a dozen sums for each.
    n_transformed = n_squares * (depth + operator.out_channels) / nest.lanes
    return replace(
        nest,
        n_outer=batch * n_blocks * filtering.n_products,
        n_rows=-(-n_down * n_across // n_blocks),
        depth=depth,
        weight_bytes=4 * filtering.n_products * depth * operator.out_channels * n_blocks,
        work=6.0 * filtering.n_products * n_transformed,
    )


def _extents(operator: Operator) -> tuple[int, int, int, int]:
    """Repetitions, rows, columns and terms of a generic operator's loops."""
    assert operator.body is not None
    traits, form = operator.body.traits, operator.body.form
    n_made = sum(kind.n_elements for kind in operator.output_types)
    depth = 1 if traits is None else traits.n_terms
    if form is None:
        return 1, 1, n_made, depth
    return max(1, n_made // (form.n_rows * form.n_columns)), form.n_rows, form.n_columns, depth


def compute_tiling_features(
    operator: Operator, target: Target, schedules: Sequence[Schedule]
) -> NDArray[np.float64]:
    """Describe the candidates of one operator, in the order in which they are listed.

    Returns:
        Shape (n_schedules, n_features), in the order of `TILING_NAMES`; logarithms are to base 2.
    """
    rows = [_describe(operator, target, s, position) for position, s in enumerate(schedules)]
    for name in COMPARED:
        least = min(row[name] for row in rows)
        for row in rows:
            row[f"more_{name}"] = row[name] - least
    return np.array([[row[name] for name in TILING_NAMES] for row in rows], dtype=np.float64)


def _describe(
    operator: Operator, target: Target, schedule: Schedule, position: int
) -> dict[str, float]:
    nest = read_nest(operator, target, schedule)
    rule = RULES.index(schedule.rule) if schedule.rule in RULES else len(RULES)
    return {
        "rule": float(rule),
        "kind": float(KINDS.index(operator.kind)),
        "position": float(position),
        "log_stride": math.log2(operator.stride[0] * operator.stride[1]),
        "row_tasks": float(dict(schedule.parameters).get(ROW_TASKS, 0)),
        "channel_tasks": float(dict(schedule.parameters).get(CHANNEL_TASKS, 0)),
        **_tile(nest, target),
        **_caches(operator, nest, target),
        **_filtering(operator, target, schedule),
        **_band(operator, target, schedule),
    }


def _tile(nest: Nest, target: Target) -> dict[str, float]:
    n_sums = nest.mean_rows * nest.mean_vectors
    products = nest.n_outer * nest.n_rows * nest.n_vectors * nest.depth
    return {
        "log_products": math.log2(products),
        "log_rows": math.log2(nest.n_rows),
        "log_vectors": math.log2(nest.n_vectors),
        "log_depth": math.log2(nest.depth),
        "log_outer": math.log2(nest.n_outer),
        "tile_rows": float(nest.rows),
        "mean_rows": nest.mean_rows,
        "tile_vectors": float(nest.vectors),
        "mean_vectors": nest.mean_vectors,
        "n_row_tiles": math.log2(nest.n_row_tiles),
        "n_column_tiles": math.log2(nest.n_column_tiles),
        "row_sizes": 1.0 + (nest.n_rows % nest.n_row_tiles > 0),
        "vector_sizes": 1.0 + (nest.n_vectors % nest.n_column_tiles > 0),
        "lanes": math.log2(nest.lanes),
        "log_sums": math.log2(n_sums),
        "idle_sums": max(0.0, 1.0 - n_sums / (_PRODUCTS_A_CYCLE * _SUM_CYCLES)),
        "registers": (n_sums + nest.mean_vectors + 1) / target.n_vector_registers,
        "loads_per_product": (nest.mean_rows + nest.mean_vectors) / n_sums,
        "order": float(nest.order),
    }


def _caches(operator: Operator, nest: Nest, target: Target) -> dict[str, float]:
    panel_bytes = 4 * nest.depth * nest.vectors * nest.lanes
    far_bytes = _far_bytes(nest, target) + operator.output_bytes
    return {
        "panel_l1": math.log2(panel_bytes / target.l1_bytes),
        "panel_l2": math.log2(panel_bytes / target.l2_bytes),
        "weights_l2": math.log2((nest.weight_bytes + 1) / target.l2_bytes),
        "rows_l1": math.log2(4 * nest.rows * nest.depth / target.l1_bytes),
        "inputs_l2": math.log2(nest.input_bytes / target.l2_bytes),
        "log_far_bytes": math.log2(far_bytes),
        "log_cycles": math.log2(_cycles(nest, far_bytes, target)),
        "row_conflict": float(4 * operator.input_shape[3] % _PAGE_BYTES == 0),
        "idle_lanes": _idle_lanes(operator, nest),
    }


def _idle_lanes(operator: Operator, nest: Nest) -> float:
    if operator.body is not None:
        return 0.0
    width = operator.out_channels // operator.groups
    return 1.0 - width / (nest.n_vectors * nest.lanes)


def _far_bytes(nest: Nest, target: Target) -> float:
    """Bytes of inputs and weights that come from beyond the first-level cache, about.

    What the inner loops pass over again is read anew where it does not fit there.
    """
    if nest.order == 1:
        again = nest.n_column_tiles if nest.input_bytes > target.l1_bytes else 1
        return float(again * nest.input_bytes + nest.weight_bytes)
    again = nest.n_row_tiles * nest.n_outer if nest.weight_bytes > target.l1_bytes else 1
    return float(nest.input_bytes + again * nest.weight_bytes)


def _cycles(nest: Nest, far_bytes: float, target: Target) -> float:
    """A rough count of cycles: the slower of arithmetic and memory, and the tiles' ends."""
    rows, vectors = nest.mean_rows, nest.mean_vectors
    step = max(
        rows * vectors / _PRODUCTS_A_CYCLE, (rows + vectors) / _LOADS_A_CYCLE, float(_SUM_CYCLES)
    )
    n_tiles = nest.n_outer * nest.n_row_tiles * nest.n_column_tiles
    wider = max(1.0, nest.lanes / target.lanes)
    computing = n_tiles * (nest.depth * step * wider + _TILE_CYCLES + rows * vectors) + nest.work
    is_near = nest.input_bytes + nest.weight_bytes <= target.l2_bytes
    reading = far_bytes / (_L2_BYTES_A_CYCLE if is_near else _FAR_BYTES_A_CYCLE)
    return (computing + reading) / nest.n_tasks


def _filtering(operator: Operator, target: Target, schedule: Schedule) -> dict[str, float]:
    """What minimal filtering alone has: squares, blocks, and outputs outside of the image."""
    if schedule.rule != winograd.RULE:
        return {"size": 0.0, "block_l2": 0.0, "outside": 0.0}
    size, tile_rows = schedule["size"], schedule["tile_rows"]
    _, height, width, _ = operator.output_shape
    n_down, n_across = -(-height // size), -(-width // size)
    block_bytes = 4 * FILTERINGS[size].n_products * tile_rows * n_across * operator.input_shape[3]
    return {
        "size": float(size),
        "block_l2": math.log2(block_bytes / target.l2_bytes),
        "outside": n_down * n_across * size**2 / (height * width) - 1.0,
    }


def _band(operator: Operator, target: Target, schedule: Schedule) -> dict[str, float]:
    """What separable convolutions alone have: a band beside the caches, tiles of the first half."""
    names = ("band_l1", "band_l2", "depthwise_pixels", "depthwise_vectors")
    if schedule.rule != separable.RULE:
        return dict.fromkeys(names, 0.0)
    first, _ = separable.halves(schedule)
    band_bytes = separable.of_band(operator, schedule["band"]).input_bytes
    near, far = (math.log2(band_bytes / size) for size in (target.l1_bytes, target.l2_bytes))
    return dict(
        zip(names, (near, far, float(first["pixels"]), float(first["vectors"])), strict=True)
    )
