"""Operations that are written as loops of our own, for tensors as they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm import relax

from profiler.importers.channel_norm import lrn_numbers, normalise_channels
from profiler.importers.graph import Node
from profiler.importers.relax_product import left_order, product
from profiler.importers.resize import resize_tables, resized, rule_of

if TYPE_CHECKING:
    from profiler.importers.relax_emit import Emitter


def write_product(emitter: Emitter, node: Node) -> None:
    """A product; only a right factor whose columns do not lie side by side is moved."""
    left, right = node.inputs
    out, rank = node.output, len(right.shape)
    if min(rank, len(left.shape)) < 2 or out.type.dtype != "float32":
        emitter.as_it_came(node)
        return
    variable, order = emitter.get(left)
    columns_last = (*(a for a in emitter.get(right)[1] if a != rank - 1), rank - 1)
    made_order = left_order(len(left.shape), order, len(out.shape))
    orders = order, columns_last, made_order
    moved = emitter.ordered(right, columns_last)
    emitter.stored[out] = (
        emitter.block.emit_te(product, variable, moved, orders, out.shape,
                            primfunc_name_hint="matmul"),
        made_order,
    )  # fmt: skip


def write_resize(emitter: Emitter, node: Node) -> None:
    """A resize of images by tables of places and weights."""
    value, out = node.inputs[0], node.output
    variable, order = emitter.get(value)
    rule = rule_of(node.origin.attrs)
    tables = [
        resize_tables(rule, size, wanted, wanted / size)
        for size, wanted in zip(value.shape[2:], out.shape[2:], strict=True)
    ]
    is_weighted = any(len(weights) > 1 for _, weights in tables)
    made = emitter.block.emit_te(
        resized,
        variable,
        (order.index(2), order.index(3)),
        [relax.const(places.astype(np.int32)) for places, _ in tables],
        [relax.const(weights) for _, weights in tables] if is_weighted else [],
        primfunc_name_hint="resize",
    )
    emitter.stored[out] = made, order


def write_channel_norm(emitter: Emitter, node: Node) -> None:
    """Local response normalisation."""
    variable, order = emitter.get(node.inputs[0])
    numbers = lrn_numbers(node.attributes["symbol"])
    made = emitter.block.emit_te(
        normalise_channels, variable, order.index(1), numbers, primfunc_name_hint="lrn"
    )
    emitter.stored[node.output] = made, order
