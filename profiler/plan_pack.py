"""Tensors packed into one arena by fast heuristics: who lies where, in what order placed.

Source: Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020
(arXiv:2001.03288), offset calculation: Greedy by Size and Greedy by Breadth; TensorFlow Lite
uses the former. Beside them an order of our own, in turns from both ends, which needs no byte more
than its worst call on every chain, where the greedy ones need up to half as much again. Where
all of them need more, tensors that stick out are placed earlier, again and again: squeaky wheel
optimisation (Joslin & Clements, 1999).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiler.plan_lifetimes import Lifetime, live_bytes

#: Offsets by item, and the bytes that they reach up to.
Placement = tuple[tuple[int, ...], int]
#: Takes intervals that are taken, sorted by start, and the bytes that are needed.
FindGap = Callable[[list[tuple[int, int]], int], int]

#: Items placed while what sticks out is brought forward, about 10 us each.
_N_PLACED: Final = 20_000
#: Rounds of bringing forward from one first order. Found by experiment on inception modules and
#: random graphs: many short climbs beat few long ones.
_N_BEFORE_RESTART: Final = 20
_DISTURBANCE: Final = 0.3


@dataclass(frozen=True, slots=True)
class Items:
    """What is to be packed; all items are known by their positions.

    Attributes:
        spans: (first, last) call that needs each item, both included.
        sizes: Bytes of each, padded to the alignment.
        neighbours: Of each, the items that are live at the same time as it.
        least_bytes: The largest sum of sizes that are live together: no packing needs less.
    """

    spans: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    neighbours: tuple[tuple[int, ...], ...]
    least_bytes: int

    def take(self, chosen: Sequence[int]) -> Items:
        """Some of the items alone, in this order."""
        return make_items([self.spans[i] for i in chosen], [self.sizes[i] for i in chosen])


def pad_lifetimes(lifetimes: Sequence[Lifetime], alignment: int) -> Items:
    """Lifetimes as items, each rounded up to the alignment."""
    return make_items(
        [(each.first, each.last) for each in lifetimes],
        [-(-each.size_bytes // alignment) * alignment for each in lifetimes],
    )


def make_items(spans: Sequence[tuple[int, int]], sizes: Sequence[int]) -> Items:
    """Items with their neighbours."""
    neighbours: list[list[int]] = [[] for _ in spans]
    live: list[int] = []
    for item in sorted(range(len(spans)), key=lambda i: spans[i]):
        live = [other for other in live if spans[other][1] >= spans[item][0]]
        for other in live:
            neighbours[item].append(other)
            neighbours[other].append(item)
        live.append(item)
    unnamed = [Lifetime((), n, first, last) for n, (first, last) in zip(sizes, spans, strict=True)]
    least_bytes = max(live_bytes(unnamed))
    return Items(tuple(spans), tuple(sizes), tuple(map(tuple, neighbours)), least_bytes)


def pack(items: Items, room: int = 0, n_placed: int = _N_PLACED) -> Placement:
    """Pack by the best of several heuristics; the same items are always packed the same way.

    Args:
        items: What is to be packed.
        room: No packing is better than one that reaches so far.
        n_placed: Items that may be placed anew while what sticks out is brought forward.
    """
    room = max(room, items.least_bytes)
    best = _pack_from_both_ends(items)
    for order in (_by_size(items), _by_breadth(items), _by_duration(items)):
        if best[1] <= room:
            return best
        best = min(best, place(items, order, _smallest_gap), key=_reach)
    rng = np.random.default_rng(0)
    n_rounds = n_placed // max(len(items.sizes), 1)
    for restart in range(-(-n_rounds // _N_BEFORE_RESTART)):
        if best[1] <= room:
            return best
        best = min(best, _bring_forward(items, room, restart, rng), key=_reach)
    return best


def place(items: Items, order: Iterable[int], find_gap: FindGap) -> Placement:
    """Place items one after another, each in a gap between those of its neighbours that lie."""
    starts: dict[int, int] = {}
    for item in order:
        starts[item] = find_gap(_taken(items, starts, item), items.sizes[item])
    return _result(items, starts)


def _reach(placement: Placement) -> int:
    return placement[1]


def _by_size(items: Items) -> list[int]:
    """Largest first; ties in order of calls."""
    return sorted(range(len(items.sizes)), key=lambda item: -items.sizes[item])


def _by_duration(items: Items) -> list[int]:
    """Longest needed first, larger ones first where several are."""
    return sorted(
        range(len(items.sizes)),
        key=lambda item: (items.spans[item][0] - items.spans[item][1], -items.sizes[item]),
    )


def _by_breadth(items: Items) -> list[int]:
    """Items of the call with most live bytes first, largest first within a call."""
    by_size = _by_size(items)
    n_positions = 1 + max((last for _, last in items.spans), default=0)
    breadths = [0] * n_positions
    at_call: list[list[int]] = [[] for _ in breadths]
    for item in by_size:
        first, last = items.spans[item]
        for position in range(first, last + 1):
            breadths[position] += items.sizes[item]
            at_call[position].append(item)
    widest = sorted(range(n_positions), key=lambda position: -breadths[position])
    return list(dict.fromkeys(item for position in widest for item in at_call[position]))


def _pack_from_both_ends(items: Items) -> Placement:
    """Place items in order of calls, in turns at the bottom and at the top of the least arena.

    What is live throughout lies at the bottom. In a chain only neighbours are live together; they
    lie at opposite ends, and the least arena holds every such pair. Where the top has no room, an
    item takes the smallest gap.
    """
    starts: dict[int, int] = {}
    end = max((last for _, last in items.spans), default=0)
    throughout = [item for item, span in enumerate(items.spans) if span == (0, end)]
    rest = [item for item in range(len(items.sizes)) if items.spans[item] != (0, end)]
    rest.sort(key=lambda item: items.spans[item][0])
    for turn, item in enumerate((*throughout, *rest)):
        size, taken = items.sizes[item], _taken(items, starts, item)
        start = items.least_bytes - size
        is_turn_of_top = turn >= len(throughout) and (turn - len(throughout)) % 2 == 1
        if not is_turn_of_top or start < max((reach for _, reach in taken), default=0):
            start = _smallest_gap(taken, size)
        starts[item] = start
    return _result(items, starts)


def _bring_forward(items: Items, room: int, restart: int, rng: np.random.Generator) -> Placement:
    """Place again and again in the lowest gaps, what reached too far about twice as early.

    Args:
        items: What is to be packed.
        room: How far is too far.
        restart: From 0; decides from which order to start, the fifth and later ones disturbed.
        rng: Decides how much earlier.
    """
    order = (_by_size, _by_breadth)[restart % 2](items)
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    if restart >= 4:
        ranks += rng.random(len(order)) * _DISTURBANCE * len(order)
    sizes = np.array(items.sizes)
    best = found = place(items, np.argsort(ranks, kind="stable").tolist(), _lowest_gap)
    for _ in range(_N_BEFORE_RESTART - 1):
        if best[1] <= room:
            break
        sticks_out = np.array(found[0]) + sizes > room
        ranks = np.where(sticks_out, ranks / 2 - rng.random(len(order)), ranks)
        found = place(items, np.argsort(ranks, kind="stable").tolist(), _lowest_gap)
        best = min(best, found, key=_reach)
    return best


def _taken(items: Items, starts: dict[int, int], item: int) -> list[tuple[int, int]]:
    """Intervals that an item must keep out of, sorted by start."""
    return sorted(
        (starts[other], starts[other] + items.sizes[other])
        for other in items.neighbours[item]
        if other in starts
    )


def _result(items: Items, starts: dict[int, int]) -> Placement:
    offsets = tuple(starts[item] for item in range(len(items.sizes)))
    return offsets, max((s + n for s, n in zip(offsets, items.sizes, strict=True)), default=0)


def _smallest_gap(taken: Iterable[tuple[int, int]], need: int) -> int:
    """Start of the smallest gap between intervals, sorted by start, that holds `need` bytes."""
    best: tuple[int, int] | None = None
    reached = 0
    for start, end in taken:
        gap = start - reached
        if gap >= need and (best is None or gap < best[0]):
            best = (gap, reached)
        reached = max(reached, end)
    return reached if best is None else best[1]


def _lowest_gap(taken: Iterable[tuple[int, int]], need: int) -> int:
    """Start of the first gap between intervals, sorted by start, that holds `need` bytes."""
    reached = 0
    for start, end in taken:
        if start - reached >= need:
            break
        reached = max(reached, end)
    return reached
