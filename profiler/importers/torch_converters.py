"""ATen operators whose conversion in TVM is missing, takes a detour, or is wrong, in Relax."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from tvm import relax

from profiler.importers.resize import ResizeRule, resize
from profiler.importers.torch_fold import CONSTANT, constant_of
from profiler.importers.torch_index import index

#: What stands for minus infinity in a mask: its exponential is 0, and no number minus it is NaN.
_NEVER: Final = -1e30
#: Beyond it a running sum as a product costs more than the sum is worth.
_LONGEST_SUM: Final = 1024


def converters(importer: Any) -> dict[str, Callable[[torch.fx.Node], Any]]:
    """Conversions by the names of ATen's operators, for one run of TVM's importer."""
    table: dict[str, Callable[[Any, torch.fx.Node], Any]] = {
        CONSTANT: _constant,
        "_fused_rms_norm.default": _rms_norm,
        "_unsafe_index.Tensor": index,
        "adaptive_max_pool2d.default": _adaptive_maximum,
        "amax.default": partial(_extreme, relax.op.max),
        "amin.default": partial(_extreme, relax.op.min),
        "clamp.default": _clamp,
        "cumsum.default": _running_sum,
        "div.Tensor_mode": _rounded_division,
        "elu.default": _elu,
        "exp2.default": _power_of_two,
        "expand.default": _expand,
        "index.Tensor": index,
        "linear.default": _linear,
        "max.dim": partial(_extreme_along, relax.op.max, relax.op.argmax),
        "min.dim": partial(_extreme_along, relax.op.min, relax.op.argmin),
        "native_group_norm.default": _group_norm,
        "rms_norm.default": _rms_norm,
        "scaled_dot_product_attention.default": _attention,
        "select.int": _select,
    }
    table |= {name: partial(_resize, rule) for name, rule in _RESIZES.items()}
    return {name: partial(convert, importer) for name, convert in table.items()}


def _constant(_importer: Any, node: torch.fx.Node) -> Any:
    return relax.const(constant_of(node).detach().numpy())


def _arguments(importer: Any, node: torch.fx.Node, *defaults: Any) -> list[Any]:
    """A node's positional arguments, those that it leaves out by their defaults."""
    given = list(importer.retrieve_args(node))
    return given + list(defaults[len(given) :])


def _linear(importer: Any, node: torch.fx.Node) -> Any:
    x, weight, bias = _arguments(importer, node, None, None, None)
    emit = importer.block_builder.emit
    product = emit(relax.op.matmul(x, emit(relax.op.permute_dims(weight)), "float32"))
    return product if bias is None else emit(relax.op.add(product, bias))


def _attention(importer: Any, node: torch.fx.Node) -> Any:
    """Vaswani et al. 2017, eq. 1, as two products and a softmax, without moving anything."""
    defaults = (None, None, None, None, 0.0, False)
    q, k, v, mask, dropout, is_causal = _arguments(importer, node, *defaults)
    if dropout:
        raise ValueError(f"dropout of {dropout} would be random; evaluate with 0")
    emit = importer.block_builder.emit
    if node.kwargs.get("enable_gqa"):
        k, v = (_shared_heads(importer, each, int(q.ty.shape.values[-3])) for each in (k, v))
    rank = len(q.ty.shape.values)
    length, width = (int(extent) for extent in q.ty.shape.values[-2:])
    scale = node.kwargs.get("scale") or 1.0 / math.sqrt(width)
    axes = [*range(rank - 2), rank - 1, rank - 2]
    scores = emit(relax.op.matmul(q, emit(relax.op.permute_dims(k, axes)), "float32"))
    scores = emit(relax.op.multiply(scores, relax.const(scale, "float32")))
    if is_causal:
        reach = np.tri(length, int(k.ty.shape.values[-2]), dtype=bool)
        scores = emit(relax.op.add(scores, _term(reach)))
    if mask is not None:
        scores = emit(relax.op.add(scores, _as_term(importer, mask)))
    return emit(relax.op.matmul(emit(relax.op.nn.softmax(scores, -1)), v, "float32"))


def _shared_heads(importer: Any, x: Any, n_heads: int) -> Any:
    """Heads that several queries share, once for each of them."""
    *batch, n_shared, length, width = (int(extent) for extent in x.ty.shape.values)
    each = n_heads // n_shared
    emit = importer.block_builder.emit
    x = emit(relax.op.reshape(x, (*batch, n_shared, 1, length, width)))
    x = emit(relax.op.broadcast_to(x, (*batch, n_shared, each, length, width)))
    return emit(relax.op.reshape(x, (*batch, n_heads, length, width)))


def _as_term(importer: Any, mask: Any) -> Any:
    if str(mask.ty.dtype) != "bool":
        return mask
    if hasattr(mask, "value"):
        return _term(mask.value.numpy())
    never, zero = relax.const(_NEVER, "float32"), relax.const(0.0, "float32")
    return importer.block_builder.emit(relax.op.where(mask, zero, never))


def _term(allowed: np.ndarray[Any, Any]) -> Any:
    return relax.const(np.where(allowed, 0.0, _NEVER).astype(np.float32))


def _rms_norm(importer: Any, node: torch.fx.Node) -> Any:
    x, shape, weight, epsilon = _arguments(importer, node, None, None, None, None)
    if weight is None:
        weight = relax.const(np.ones(tuple(shape), np.float32))
    if epsilon is None:
        epsilon = float(np.finfo(np.float32).eps)
    axes = list(range(-len(shape), 0))
    return importer.block_builder.emit(relax.op.nn.rms_norm(x, weight, axes, epsilon))


def _group_norm(importer: Any, node: torch.fx.Node) -> Any:
    x, gamma, beta, _, n_channels, _, n_groups, epsilon = importer.retrieve_args(node)
    gamma = relax.const(np.ones(n_channels, np.float32)) if gamma is None else gamma
    beta = relax.const(np.zeros(n_channels, np.float32)) if beta is None else beta
    axes = list(range(2, len(x.ty.shape.values)))
    return importer.block_builder.emit(
        relax.op.nn.group_norm(x, gamma, beta, n_groups, 1, axes, epsilon)
    )


def _extreme(op: Callable[..., Any], importer: Any, node: torch.fx.Node) -> Any:
    x, axes, keepdim = _arguments(importer, node, None, (), False)
    return importer.block_builder.emit(op(x, list(axes) or None, keepdim))


def _extreme_along(
    op: Callable[..., Any], place_op: Callable[..., Any], importer: Any, node: torch.fx.Node
) -> Any:
    """Values and places, without sorting."""
    x, axis, keepdim = _arguments(importer, node, None, None, False)
    values = importer.block_builder.emit(op(x, axis, keepdim))
    places = importer.block_builder.emit(place_op(x, axis, keepdim))
    return importer.block_builder.emit(relax.Tuple([values, places]))


def _adaptive_maximum(importer: Any, node: torch.fx.Node) -> Any:
    """Windows of one size, where the sizes divide; the places of the maxima are not computed."""
    x, size = importer.retrieve_args(node)
    if any(user.args[1] != 0 and user.users for user in node.users):
        raise ValueError("the places of its maxima are read")
    extents = [int(extent) for extent in x.ty.shape.values[-2:]]
    if any(extent % wanted for extent, wanted in zip(extents, size, strict=True)):
        raise ValueError(f"{extents} pixels cannot be cut into {list(size)} windows of one size")
    window = tuple(extent // wanted for extent, wanted in zip(extents, size, strict=True))
    pooled = importer.block_builder.emit(relax.op.nn.max_pool2d(x, window, window))
    return [pooled]


def _clamp(importer: Any, node: torch.fx.Node) -> Any:
    """Bounds of integers are integers, and may be missing."""
    x, low, high = _arguments(importer, node, None, None, None)
    dtype, emit = str(x.ty.dtype), importer.block_builder.emit
    if "float" in dtype:
        return emit(relax.op.clip(x, -np.inf if low is None else low,
                                  np.inf if high is None else high))  # fmt: skip
    for bound, op in ((low, relax.op.maximum), (high, relax.op.minimum)):
        if bound is not None:
            x = emit(op(x, relax.const(bound, dtype)))
    return x


def _elu(importer: Any, node: torch.fx.Node) -> Any:
    """Clevert et al. 2016, eq. 15, and with a scale SELU, which TVM's conversion leaves out."""
    x, alpha, scale, input_scale = _arguments(importer, node, None, 1.0, 1.0, 1.0)
    emit = importer.block_builder.emit

    def times(value: Any, factor: float) -> Any:
        return value if factor == 1 else emit(relax.op.multiply(value, relax.const(factor)))

    rest = emit(relax.op.subtract(emit(relax.op.exp(times(x, input_scale))), relax.const(1.0)))
    below = times(emit(relax.op.minimum(rest, relax.const(0.0))), alpha * scale)
    return emit(relax.op.add(times(emit(relax.op.nn.relu(x)), scale), below))


def _power_of_two(importer: Any, node: torch.fx.Node) -> Any:
    (x,) = importer.retrieve_args(node)
    emit = importer.block_builder.emit
    return emit(relax.op.exp(emit(relax.op.multiply(x, relax.const(math.log(2.0), "float32")))))


def _running_sum(importer: Any, node: torch.fx.Node) -> Any:
    """A product with ones on and above the diagonal, along the last axis."""
    x, axis = importer.retrieve_args(node)
    extents = [int(extent) for extent in x.ty.shape.values]
    axis %= len(extents)
    if str(x.ty.dtype) != "float32" or extents[axis] > _LONGEST_SUM:
        raise ValueError(f"sums run over at most {_LONGEST_SUM} numbers of float32")
    axes = [*(a for a in range(len(extents)) if a != axis), axis]
    ones = relax.const(np.triu(np.ones((extents[axis],) * 2, np.float32)))
    emit = importer.block_builder.emit
    sums = emit(relax.op.matmul(emit(relax.op.permute_dims(x, axes)), ones, "float32"))
    return emit(relax.op.permute_dims(sums, [axes.index(a) for a in range(len(extents))]))


def _rounded_division(importer: Any, node: torch.fx.Node) -> Any:
    """A divisor that is a number takes the dividend's type."""
    x, divisor = importer.retrieve_args(node)
    dtype = str(x.ty.dtype)
    mode = node.kwargs.get("rounding_mode")
    if isinstance(divisor, int | float):
        divisor = relax.const(divisor, dtype)
    emit = importer.block_builder.emit
    if "float" not in dtype and mode == "floor":
        return emit(relax.op.floor_divide(x, divisor))
    quotient = emit(relax.op.divide(x, divisor))
    if mode is None:
        return quotient
    if "float" not in dtype:
        return quotient  # of integers, towards zero
    return emit(relax.op.floor(quotient) if mode == "floor" else relax.op.trunc(quotient))


def _expand(importer: Any, node: torch.fx.Node) -> Any:
    x = importer.retrieve_args(node)[0]
    shape = tuple(node.meta["val"].shape)
    if tuple(int(extent) for extent in x.ty.shape.values) == shape:
        return x
    return importer.block_builder.emit(relax.op.broadcast_to(x, shape))


def _select(importer: Any, node: torch.fx.Node) -> Any:
    """One place along an axis as a slice, which is no gather."""
    x, axis, index = importer.retrieve_args(node)
    extents = [int(extent) for extent in x.ty.shape.values]
    axis %= len(extents)
    index %= extents[axis]
    emit = importer.block_builder.emit
    part = emit(relax.op.strided_slice(x, [axis], [index], [index + 1]))
    return emit(relax.op.squeeze(part, [axis]))


def _resize(rule: ResizeRule, importer: Any, node: torch.fx.Node) -> Any:
    """Sizes or factors; a stated factor counts even where it does not give whole numbers."""
    x, sizes, *rest = _arguments(importer, node, None, None, None, None)
    if rule.mode != "nearest":
        is_aligned, *rest = rest
        rule = replace(rule, coordinates="align_corners") if is_aligned else rule
    extents = [int(extent) for extent in x.ty.shape.values]
    wanted = dict(enumerate(map(int, node.meta["val"].shape[2:]), 2))
    factors = {axis: size / extents[axis] for axis, size in wanted.items()}
    if sizes is None and rest[0] is not None:
        factors = dict(enumerate(map(float, rest[0]), 2))
    return resize(importer.block_builder, x, rule, factors, wanted)


_NEAREST: Final = ResizeRule("nearest", "asymmetric", "floor")
_EXACT: Final = ResizeRule("nearest", "half_pixel", "round_prefer_ceil")
_RESIZES: Final = {
    "_upsample_nearest_exact1d.vec": _EXACT,
    "_upsample_nearest_exact2d.vec": _EXACT,
    "upsample_bicubic2d.vec": ResizeRule("cubic"),
    "upsample_bilinear2d.vec": ResizeRule("linear"),
    "upsample_linear1d.vec": ResizeRule("linear"),
    "upsample_nearest1d.vec": _NEAREST,
    "upsample_nearest2d.vec": _NEAREST,
}
#: Operators that torch must leave whole: it would write them as sums over indices, or with copies.
WHOLE: Final = (
    "linear.default",
    "matmul.default",
    "adaptive_max_pool2d.default",
    "max_pool1d.default",
    "max_pool2d.default",
    "max_pool3d.default",
    "rms_norm.default",
    "roll.default",
    "scaled_dot_product_attention.default",
    "unbind.int",
    *_RESIZES,
)
