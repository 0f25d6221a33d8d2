"""Tensors packed into the smallest arena there is, by integer programming where it takes that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from profiler.plan_pack import Items, Placement, pack
from profiler.plan_parts import Packing, pack_parts

#: Heuristics are far cheaper than a program: they try long before one is written.
_N_PLACED: Final = 150_000
_FIRST_SHARE: Final = 0.7  # of the time, for the first of two programs


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
        known = pack(core, room, _N_PLACED)
        if known[1] <= room:
            return known, True
        return _solve(core, known, room, unit_bytes, lambda: deadline_s - clock())

    return pack_parts(items, pack_core)


def _solve(
    items: Items, known: Placement, room: int, unit_bytes: int, left_s: Callable[[], float]
) -> tuple[Placement, bool]:
    """Look for a packing smaller than a known one; True if none is smaller than the result.

    Whether one fits the room exactly is asked first: its program is the tightest, and the answer
    is nearly always yes.
    """
    from profiler.plan_program import solve  # noqa: PLC0415  # HiGHS only where it is needed

    least, most = room, known[1] - unit_bytes
    starts, is_proved = solve(items, room, room, unit_bytes, _FIRST_SHARE * left_s())
    if starts is None and most > room:
        least += unit_bytes if is_proved else 0
        starts, is_proved = solve(items, most, least, unit_bytes, left_s())
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
