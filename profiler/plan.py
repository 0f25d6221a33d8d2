"""Where each activation of a network lies in one arena of memory, and in which order calls run.

The order comes from `plan_order`, what must lie where and when from `plan_lifetimes`, the places
from `plan_pack` (fast) or `plan_optimal` (the smallest arena, proved where time allows).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from profiler.network import Network
from profiler.plan_lifetimes import Lifetime, find_lifetimes, live_bytes
from profiler.plan_optimal import pack_optimally
from profiler.plan_order import choose_order
from profiler.plan_pack import Items, pack, pad_lifetimes
from profiler.plan_parts import Packing, pack_parts

#: `greedy` takes milliseconds; `optimal` half a minute at the most, where greedy is not the least.
PlanMode = Literal["greedy", "optimal"]
PLAN_MODES: Final[tuple[str, ...]] = get_args(PlanMode)
TIME_LIMIT_S: Final = 28.0  # of half a minute, what surrounds the integer programs set apart
#: Offsets of tensors: no vector of any target crosses a line of the cache.
ALIGNMENT_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """An order of execution, and offsets of tensors in one arena.

    Tensors that are live together share no byte, but for an input and the output that takes its
    place.

    Attributes:
        order: Positions in the network's calls, in order of execution.
        offsets: Offset in bytes of each of the network's inputs and calls' outputs, by name.
        arena_bytes: Size of the arena, a multiple of the alignment.
        peak_live_bytes: Most bytes that are live during one call of this order, an output that may
            take the place of an input not counted: no plan of this order needs less.
        is_optimal: Whether it is proved that no places need a smaller arena in this order, outputs
            in the places of inputs wherever they may be.
    """

    order: tuple[int, ...]
    offsets: Mapping[str, int]
    arena_bytes: int
    peak_live_bytes: int
    is_optimal: bool


def plan_arena(
    network: Network,
    alignment: int = ALIGNMENT_BYTES,
    mode: PlanMode = "greedy",
    time_limit_s: float = TIME_LIMIT_S,
) -> ArenaPlan:
    """Choose an order of execution and place every activation of a network in one arena.

    The network keeps its order unless another one makes the arena smaller.

    Args:
        network: The network.
        alignment: Every offset and the arena's size are multiples of it, in bytes.
        mode: How hard to look for places.
        time_limit_s: Seconds that `optimal` may take.

    Raises:
        ValueError: the alignment is not a power of two, or the mode is unknown.
    """
    if alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"alignment must be a power of two, got {alignment}")
    if mode not in PLAN_MODES:
        raise ValueError(f"plan must be one of {', '.join(PLAN_MODES)}, got {mode!r}")
    given = tuple(range(len(network.calls)))
    best = _plan_order(network, choose_order(network, alignment), alignment)
    if best.order != given and best.arena_bytes >= _least_bytes(network, alignment):
        best = min(_plan_order(network, given, alignment), best, key=lambda plan: plan.arena_bytes)
    if mode == "optimal" and not best.is_optimal:
        return _improve(network, best, alignment, time_limit_s)
    return best


def in_order(network: Network, order: tuple[int, ...]) -> Network:
    """The network with its calls in another order of execution."""
    if order == tuple(range(len(network.calls))):
        return network
    return replace(network, calls=tuple(network.calls[i] for i in order))


def _plan_order(network: Network, order: tuple[int, ...], alignment: int) -> ArenaPlan:
    """Place greedily, with outputs in the place of inputs unless that needs more."""
    ordered = in_order(network, order)
    lifetimes = find_lifetimes(ordered)
    plan = _as_plan(order, lifetimes, _pack_greedily(pad_lifetimes(lifetimes, alignment)))
    if plan.is_optimal:
        return plan
    apart = find_lifetimes(ordered, in_place=False)
    items = pad_lifetimes(apart, alignment)
    if items.least_bytes >= plan.arena_bytes:
        return plan
    packing = _pack_greedily(items)
    if packing.arena_bytes >= plan.arena_bytes:
        return plan
    # No proof: the least that these need is not the least there is.
    plan_apart = _as_plan(order, apart, replace(packing, is_optimal=False))
    return replace(plan_apart, peak_live_bytes=plan.peak_live_bytes)


def _least_bytes(network: Network, alignment: int) -> int:
    """No plan of the network's own order needs less."""
    return pad_lifetimes(find_lifetimes(network), alignment).least_bytes


def _pack_greedily(items: Items) -> Packing:
    """Pack by heuristics, first everything at once, then what is hard by itself."""
    offsets, arena_bytes = pack(items, n_placed=0)
    at_once = Packing(offsets, arena_bytes, arena_bytes == items.least_bytes)
    if at_once.is_optimal:
        return at_once
    by_parts = pack_parts(items, lambda core, room: (pack(core, room), False))
    return min(at_once, by_parts, key=lambda packing: packing.arena_bytes)


def _improve(network: Network, known: ArenaPlan, alignment: int, time_limit_s: float) -> ArenaPlan:
    """The smallest arena for the order of a greedy plan."""
    lifetimes = find_lifetimes(in_order(network, known.order))
    packing = pack_optimally(pad_lifetimes(lifetimes, alignment), alignment, time_limit_s)
    if packing.arena_bytes > known.arena_bytes:
        return known
    return _as_plan(known.order, lifetimes, packing)


def _as_plan(
    order: tuple[int, ...], lifetimes: tuple[Lifetime, ...], packing: Packing
) -> ArenaPlan:
    offsets = {
        name: offset
        for lifetime, offset in zip(lifetimes, packing.offsets, strict=True)
        for name in lifetime.names
    }
    peak_bytes = max(live_bytes(lifetimes))
    return ArenaPlan(order, offsets, packing.arena_bytes, peak_bytes, packing.is_optimal)
