"""Tensors packed into the smallest arena there is, by integer programming where it takes that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from profiler.plan_pack import Items, Placement, pack
from profiler.plan_parts import Packing, pack_parts

#: Heuristics are far cheaper than a program: they try long before one is written.
_N_ROUNDS: Final = 1000


def pack_optimally(
    items: Items,
    unit_bytes: int,
    time_limit_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Packing:
    """Pack into the smallest arena, or the smallest that is found in time.

    Args:
        items: What is to be packed.
        unit_bytes: Divides every size.
        time_limit_s: Seconds that all integer programs together may take.
        clock: Seconds, monotonic.
    """
    deadline_s = clock() + time_limit_s

    def pack_core(core: Items, room: int) -> tuple[Placement, bool]:
        known = pack(core, room, _N_ROUNDS)
        if known[1] <= room:
            return known, True
        return _solve(core, known, room, unit_bytes, deadline_s - clock())

    return pack_parts(items, pack_core)


def _solve(
    items: Items, known: Placement, room: int, unit_bytes: int, left_s: float
) -> tuple[Placement, bool]:
    """Look for a packing smaller than a known one; True if none is smaller than the result."""
    from profiler.plan_program import solve  # noqa: PLC0415  # HiGHS only where it is needed

    if left_s <= 0:
        return known, False
    starts, is_proved = solve(items, known[1] - unit_bytes, room, unit_bytes, left_s)
    if starts is None:
        return known, is_proved
    # The program's offsets are floating-point numbers: only their order is taken from it.
    found = _stack(items, sorted(range(len(starts)), key=lambda item: starts[item]))
    return min(found, known, key=lambda placement: placement[1]), is_proved


def _stack(items: Items, order: Sequence[int]) -> Placement:
    """Place items one after another, each above those of its neighbours that lie already."""
    ends: dict[int, int] = {}
    for item in order:
        start = max((ends[n] for n in items.neighbours[item] if n in ends), default=0)
        ends[item] = start + items.sizes[item]
    offsets = tuple(ends[item] - items.sizes[item] for item in range(len(items.sizes)))
    return offsets, max(ends.values(), default=0)
