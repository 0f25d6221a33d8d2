"""An operator, its target and its schedule as a vector of named numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiler.generic import LoopTraits
from profiler.minimal_filtering import FILTERINGS
from profiler.operator import ACTIVATIONS, Operator
from profiler.schedules import winograd
from profiler.schedules.schedule import Schedule
from profiler.target import Target

ChooseSchedule = Callable[[Operator], Schedule]

_EPILOGUES: Final = ("bias", "add", *ACTIVATIONS)
#: A few comparisons and multiplications; all other activations hold an exponential.
_CHEAP_ACTIVATIONS: Final = frozenset({None, "relu", "relu6", "hard_swish", "hard_sigmoid"})
#: Parameters of a schedule that name a tile of output pixels.
_ROW_TILES: Final = ("rows", "pixels")
#: The order of the loops around a tile, by either of its names.
_ORDERS: Final = ("panels_outer", "channels_outer")
#: Sums that must be under way to hide the latency of a fused multiply-add: 4 cycles, 2 units.
_SUMS_IN_FLIGHT: Final = 8

_GEOMETRY: Final = (
    "log_batch", "log_in_height", "log_in_width", "log_pixels", "log_in_channels",
    "log_out_channels", "log_kernel_area", "kernel_height", "kernel_width", "log_stride_area",
    "dilation", "padded_share",
)  # fmt: skip
_TILES: Final = (
    "tile_rows", "tile_channels", "loads_per_sum", "idle_sums", "is_gemm",
    "channels_outer", "log_padded_channels", "lane_remainder", "log_saved_products",
)  # fmt: skip
_SEPARABLE: Final = (
    "log_between_bytes", "depthwise_share", "log_band_bytes", "has_costly_inner_activation",
)  # fmt: skip
_LOOPS: Final = ("log_iterations", "log_terms", "costly_share", "strided_share", "log_blocks")

#: Columns in which a latency changes slowly: the smooth base fit reads these alone.
SMOOTH_COLUMNS: Final[tuple[str, ...]] = (
    "log_pixels",
    "log_in_channels",
    "log_out_channels",
    "log_kernel_area",
    "log_stride_area",
    "loads_per_sum",
    "idle_sums",
    "log_padded_channels",
    "log_saved_products",
    "log_working_set_l1",
    "log_working_set_l2",
    "n_epilogue_steps",
    "has_add",
    "has_costly_activation",
    "log_between_bytes",
    "depthwise_share",
    *_LOOPS,
)
FEATURE_NAMES: Final[tuple[str, ...]] = (
    "log_flops",
    "log_bytes",
    "log_input_bytes",
    "log_output_bytes",
    "log_weight_bytes",
    "log_intensity",
    "log_roofline_cycles",
    "log_batch",
    "log_in_height",
    "log_in_width",
    "log_pixels",
    "log_in_channels",
    "log_out_channels",
    "log_kernel_area",
    "kernel_height",
    "kernel_width",
    "log_stride_area",
    "dilation",
    "padded_share",
    "n_epilogue_steps",
    "has_costly_activation",
    *(f"has_{step}" for step in _EPILOGUES),
    "tile_rows",
    "tile_channels",
    "loads_per_sum",
    "idle_sums",
    "is_gemm",
    "channels_outer",
    "log_padded_channels",
    "lane_remainder",
    "log_saved_products",
    "log_working_set_l1",
    "log_working_set_l2",
    "weights_over_l1",
    "weights_over_l2",
    "is_multithreaded",
    *_SEPARABLE,
    *_LOOPS,
)


def compute_features(operator: Operator, target: Target, schedule: Schedule) -> NDArray[np.float64]:
    """Describe an operator as it would run on a target.

    A pure function: equal arguments give equal vectors. Logarithms are to base 2. What a kind does
    not have is 0 throughout, so that it tells no operators of that kind apart: generic operators
    have no channels or tiles, others no traits of loops.

    Returns:
        Shape (n_features,), in the order of `FEATURE_NAMES`.
    """
    values = {
        **_amounts(operator, target, schedule),
        **_geometry(operator),
        **_epilogue(operator),
        **_tiles(operator, target, schedule),
        **_caches(operator, target),
        **_separable(operator, schedule),
        **_loops(operator),
    }
    return np.array([values[name] for name in FEATURE_NAMES], dtype=np.float64)


def compute_feature_matrix(
    operators: Sequence[Operator], target: Target, choose_schedule: ChooseSchedule
) -> NDArray[np.float64]:
    """Describe many operators.

    Returns:
        Shape (n_operators, n_features).
    """
    rows = [compute_features(op, target, choose_schedule(op)) for op in operators]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(FEATURE_NAMES))


def columns(names: Sequence[str]) -> list[int]:
    """Positions of named columns in a feature vector."""
    return [FEATURE_NAMES.index(name) for name in names]


def total_bytes(operator: Operator) -> int:
    """Bytes that an operator reads and writes when nothing is read twice."""
    return operator.input_bytes + operator.output_bytes + operator.weight_bytes


def _log2(value: float) -> float:
    return math.log2(value) if value > 0 else -1.0


def _amounts(operator: Operator, target: Target, schedule: Schedule) -> dict[str, float]:
    n_bytes = total_bytes(operator)
    # Two fused multiply-adds of a full vector and one vector load a cycle: what most
    # out-of-order cores sustain at best. Only ratios matter; the fit finds the real rates.
    flops_per_cycle = 4 * target.lanes * schedule.n_tasks
    cycles = max(operator.n_flops / flops_per_cycle, n_bytes / target.vector_bytes)
    return {
        "log_flops": _log2(operator.n_flops),
        "log_bytes": _log2(n_bytes),
        "log_input_bytes": _log2(operator.input_bytes),
        "log_output_bytes": _log2(operator.output_bytes),
        "log_weight_bytes": _log2(operator.weight_bytes),
        # Of at least one operation: what only moves bytes is less intense than any arithmetic.
        "log_intensity": _log2(max(operator.n_flops, 1) / n_bytes),
        "log_roofline_cycles": _log2(cycles),
        "is_multithreaded": float(target.threads > 1),
    }


def _geometry(operator: Operator) -> dict[str, float]:
    if operator.body is not None:
        n_made = sum(kind.n_elements for kind in operator.output_types)
        return dict.fromkeys(_GEOMETRY, 0.0) | {"log_pixels": _log2(n_made)}
    batch, height, width, channels = operator.input_shape
    _, out_height, out_width, out_channels = operator.output_shape
    top, left, bottom, right = operator.padding
    padded_area = (height + top + bottom) * (width + left + right)
    pixels = height * width if operator.kind == "global_avg_pool2d" else out_height * out_width
    return {
        "log_batch": _log2(batch),
        "log_in_height": _log2(height),
        "log_in_width": _log2(width),
        "log_pixels": _log2(batch * pixels),
        "log_in_channels": _log2(channels // operator.groups),
        "log_out_channels": _log2(out_channels),
        "log_kernel_area": _log2(operator.kernel[0] * operator.kernel[1]),
        "kernel_height": float(operator.kernel[0]),
        "kernel_width": float(operator.kernel[1]),
        "log_stride_area": _log2(operator.stride[0] * operator.stride[1]),
        "dilation": float(max(operator.dilation)),
        "padded_share": 1.0 - height * width / padded_area,
    }


def _epilogue(operator: Operator) -> dict[str, float]:
    flags = {f"has_{step}": float(step in operator.epilogue) for step in _EPILOGUES}
    return {
        **flags,
        "n_epilogue_steps": float(len(operator.epilogue)),
        "has_costly_activation": float(operator.activation not in _CHEAP_ACTIVATIONS),
    }


def _tiles(operator: Operator, target: Target, schedule: Schedule) -> dict[str, float]:
    options = dict(schedule.parameters)
    rows = next((options[name] for name in _ROW_TILES if name in options), 1)
    vectors, lanes = options.get("vectors", 1), options.get("lanes", target.lanes)
    if operator.body is not None:
        return dict.fromkeys(_TILES, 0.0) | {
            "tile_rows": float(options.get("rows", 0)),
            "tile_channels": float(options.get("vectors", 0) * lanes),
            "is_gemm": float(schedule.rule == "matmul"),
        }
    width = operator.out_channels // operator.groups
    n_sums = rows * vectors
    return {
        "tile_rows": float(rows),
        "tile_channels": float(vectors * lanes),
        "loads_per_sum": (rows + vectors) / n_sums,
        "idle_sums": max(0, _SUMS_IN_FLIGHT - n_sums) / _SUMS_IN_FLIGHT,
        "is_gemm": float(schedule.rule == "gemm"),
        "channels_outer": next((float(options[name]) for name in _ORDERS if name in options), -1.0),
        "log_padded_channels": _log2(math.ceil(width / lanes) * lanes / width),
        "lane_remainder": width % target.lanes / target.lanes,
        "log_saved_products": _log2(_saved_products(schedule)),
    }


def _saved_products(schedule: Schedule) -> float:
    """Multiplications of a plain convolution for each one of this schedule."""
    if schedule.rule != winograd.RULE:
        return 1.0
    filtering = FILTERINGS[schedule["size"]]
    return 9 * filtering.size**2 / filtering.n_products


def _separable(operator: Operator, schedule: Schedule) -> dict[str, float]:
    """What lies between the halves, in all and at once, and what the first costs."""
    if operator.kind != "separable_conv2d":
        return dict.fromkeys(_SEPARABLE, 0.0)
    depthwise = operator.depthwise
    n_rows = depthwise.output_shape[1]
    band = dict(schedule.parameters).get("band", n_rows)
    return {
        "log_between_bytes": _log2(depthwise.output_bytes),
        "depthwise_share": depthwise.n_macs / operator.n_macs,
        "log_band_bytes": _log2(depthwise.output_bytes * band / n_rows),
        "has_costly_inner_activation": float(depthwise.activation not in _CHEAP_ACTIVATIONS),
    }


def _loops(operator: Operator) -> dict[str, float]:
    if operator.body is None:
        return dict.fromkeys(_LOOPS, 0.0)
    traits = operator.body.traits
    if traits is None:  # loops of a library: as many passes as numbers that they make
        n_made = sum(kind.n_elements for kind in operator.output_types)
        traits = LoopTraits(n_made, 0, 1, 0, 1)
    return {
        "log_iterations": _log2(traits.n_iterations),
        "log_terms": _log2(traits.n_terms),
        "costly_share": traits.n_transcendentals / traits.n_iterations,
        "strided_share": 1.0 - traits.n_along_memory / traits.n_iterations,
        "log_blocks": _log2(traits.n_blocks),
    }


def _caches(operator: Operator, target: Target) -> dict[str, float]:
    working_set = total_bytes(operator)
    return {
        "log_working_set_l1": max(0.0, _log2(working_set / target.l1_bytes)),
        "log_working_set_l2": max(0.0, _log2(working_set / target.l2_bytes)),
        "weights_over_l1": operator.weight_bytes / target.l1_bytes,
        "weights_over_l2": operator.weight_bytes / target.l2_bytes,
    }
