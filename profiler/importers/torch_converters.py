"""ATen operators whose conversion in TVM is missing, takes a detour, or is wrong, in Relax."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from tvm import relax

from profiler.importers.torch_fold import CONSTANT, constant_of

#: What stands for minus infinity in a mask: its exponential is 0, and no number minus it is NaN.
_NEVER: Final = -1e30


def converters(importer: Any) -> dict[str, Callable[[torch.fx.Node], Any]]:
    """Conversions by the names of ATen's operators, for one run of TVM's importer."""
    table: dict[str, Callable[[Any, torch.fx.Node], Any]] = {
        CONSTANT: _constant,
        "_fused_rms_norm.default": _rms_norm,
        "_unsafe_index.Tensor": lambda importer, node: importer._index_tensor(node),
        "div.Tensor_mode": _rounded_division,
        "expand.default": _expand,
        "linear.default": _linear,
        "native_group_norm.default": _group_norm,
        "pow.Tensor_Scalar": _power,
        "scaled_dot_product_attention.default": _attention,
        "select.int": _select,
        "upsample_bilinear2d.vec": _bilinear,
        "upsample_nearest2d.vec": _nearest,
    }
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


def _power(importer: Any, node: torch.fx.Node) -> Any:
    """Usual exponents without a logarithm."""
    x, exponent = importer.retrieve_args(node)
    emit = importer.block_builder.emit
    if "float" in str(x.ty.dtype):
        if exponent == 2:
            return emit(relax.op.multiply(x, x))
        if exponent == 3:
            return emit(relax.op.multiply(emit(relax.op.multiply(x, x)), x))
        if exponent == 0.5:
            return emit(relax.op.sqrt(x))
        if exponent == -0.5:
            return emit(relax.op.rsqrt(x))
    return importer._pow(node)


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


def _bilinear(importer: Any, node: torch.fx.Node) -> Any:
    x, _, is_aligned, scales = _arguments(importer, node, None, None, False, None)
    size = tuple(node.meta["val"].shape[2:])
    if not is_aligned:
        _check_scales(x, size, scales)
    mode = "align_corners" if is_aligned else "half_pixel"
    return importer.block_builder.emit(
        relax.op.image.resize2d(
            x, size, layout="NCHW", method="linear", coordinate_transformation_mode=mode
        )
    )


def _nearest(importer: Any, node: torch.fx.Node) -> Any:
    x, _, scales = _arguments(importer, node, None, None, None)
    size = tuple(node.meta["val"].shape[2:])
    _check_scales(x, size, scales)
    return importer.block_builder.emit(
        relax.op.image.resize2d(
            x, size, layout="NCHW", method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric", rounding_method="floor",
        )
    )  # fmt: skip


def _check_scales(x: Any, size: tuple[int, ...], scales: Any) -> None:
    """A scale must be the ratio of the sizes, which is what TVM takes it for."""
    extents = [int(extent) for extent in x.ty.shape.values[2:]]
    for extent, wanted, scale in zip(extents, size, scales or (), strict=False):
        if not math.isclose(extent * scale, wanted):
            raise ValueError(f"a scale of {scale} on {extent} pixels does not give whole ones")
