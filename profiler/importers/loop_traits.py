"""What loops are like, read from their TIR at the import, so that no model of cost needs TVM."""

from __future__ import annotations

import math
from typing import Any, Final

import tvm
from tvm import s_tir

from profiler.generic import LoopTraits
from profiler.schedules.generic import blocks_of, find_innermost, inline, n_iterations, nodes_of

#: Calls that take several times as long as a multiplication, by the ends of their names.
_COSTLY: Final = frozenset({
    "exp", "exp2", "exp10", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "sqrt",
    "rsqrt", "pow", "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "atan2", "asinh",
    "acosh", "atanh",
})  # fmt: skip


def read_traits(function: tvm.tirx.PrimFunc) -> LoopTraits | None:
    """Read a function's loops, cheap blocks drawn into their readers as its schedule does.

    Returns:
        None for loops that cannot be scheduled, such as those with calls of libraries.
    """
    try:
        sch = s_tir.Schedule(function)
        inline(sch)
        blocks = [_read_block(sch, block) for block in blocks_of(sch)]
    except (RuntimeError, ValueError, TypeError, AttributeError):
        return None
    if not blocks:
        return None
    return LoopTraits(
        n_iterations=sum(passes for passes, *_ in blocks),
        n_transcendentals=sum(passes * costly for passes, costly, *_ in blocks),
        n_terms=max(terms for _, _, terms, _ in blocks),
        n_along_memory=sum(passes for passes, _, _, is_along in blocks if is_along),
        n_blocks=len(blocks),
    )


def _read_block(sch: s_tir.Schedule, block: Any) -> tuple[int, int, int, bool]:
    """Passes, costly calls in each, terms of a sum, and whether a loop can run along memory."""
    statement = sch.get(block)
    costly = sum(_is_costly(node) for node in nodes_of(statement.body))
    terms = math.prod(
        int(variable.dom.extent) for variable in statement.iter_vars if int(variable.iter_type) == 2
    )
    loops = sch.get_loops(block)
    is_along = len(loops) == len(statement.iter_vars) and (
        find_innermost(sch, block, loops) is not None
    )
    return n_iterations(sch, block), costly, terms, is_along


def _is_costly(node: Any) -> bool:
    op = getattr(node, "op", None)
    if not isinstance(op, tvm.ir.Op):
        return False
    return op.name.rpartition(".")[2] in _COSTLY
