"""What is hard about packing tensors, cut out of what is not.

Finding the smallest arena is NP-hard (dynamic storage allocation; Garey & Johnson, 1979), but
little of a network is hard. What is live throughout goes to the bottom, parts that are never live
together are packed each by itself, and an item that fits into a gap wherever its neighbours lie is
packed last. None of this can make the arena larger than it has to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from profiler.plan_pack import Items, Placement

#: Packs what is hard: takes the items and the bytes that there is room for anyway; returns where
#: they lie, and whether it is proved that no packing needs less than these, or than the room.
PackCore = Callable[[Items, int], tuple[Placement, bool]]


@dataclass(frozen=True, slots=True)
class Packing:
    """Where items lie.

    Attributes:
        offsets: In bytes, by item.
        arena_bytes: What they reach up to.
        is_optimal: Whether it is proved that no packing needs less.
    """

    offsets: tuple[int, ...]
    arena_bytes: int
    is_optimal: bool


def pack_parts(items: Items, pack_core: PackCore) -> Packing:
    """Pack items part by part; `pack_core` does what is hard."""
    parts = _Parts(items, pack_core)
    parts.pack(range(len(items.sizes)), 0)
    offsets = tuple(parts.offsets[item] for item in range(len(items.sizes)))
    reach = max((s + n for s, n in zip(offsets, items.sizes, strict=True)), default=0)
    return Packing(offsets, reach, parts.is_proved or reach == items.least_bytes)


class _Parts:
    """Offsets found so far; `is_proved` ends with the first part that may be larger than needed."""

    def __init__(self, items: Items, pack_core: PackCore) -> None:
        self.offsets: dict[int, int] = {}
        self.is_proved = True
        self._items = items
        self._pack_core = pack_core

    def pack(self, chosen: Sequence[int], base: int) -> None:
        """Pack some of the items from an offset up."""
        for part in self._never_together(chosen):
            throughout = self._throughout(part)
            offset = base
            for item in throughout:
                self.offsets[item] = offset
                offset += self._items.sizes[item]
            rest = [item for item in part if item not in throughout]
            if throughout and rest:
                self.pack(rest, offset)
            elif rest:
                self._pack_part(rest, offset)

    def _never_together(self, chosen: Sequence[int]) -> list[list[int]]:
        """Items in groups of which no two are ever live together, in order of calls."""
        spans = self._items.spans
        parts: list[list[int]] = []
        reached = -1
        for item in sorted(chosen, key=lambda item: spans[item]):
            if spans[item][0] > reached:
                parts.append([])
            parts[-1].append(item)
            reached = max(reached, spans[item][1])
        return parts

    def _throughout(self, part: Sequence[int]) -> set[int]:
        """Items that are live together with all others of a part."""
        first = max(self._items.spans[item][0] for item in part)
        last = min(self._items.spans[item][1] for item in part)
        return {
            item
            for item in part
            if self._items.spans[item][0] <= last and self._items.spans[item][1] >= first
        }

    def _pack_part(self, part: Sequence[int], base: int) -> None:
        room = max(self._items.least_bytes - base, self._items.take(part).least_bytes)
        core, easy = self._split(part, room)
        if easy:
            self.pack(core, base)
        else:
            placement, is_proved = self._pack_core(self._items.take(core), room)
            self.is_proved &= is_proved
            for item, offset in zip(core, placement[0], strict=True):
                self.offsets[item] = base + offset
        for item in reversed(easy):
            self._place_in_gap(item, base)

    def _split(self, part: Sequence[int], room: int) -> tuple[list[int], list[int]]:
        """Items that must be thought about, and those that find a gap when all others lie.

        Where k neighbours take T of the room's bytes, one of the k + 1 gaps between them holds
        (room - T) / (k + 1), wherever they lie.
        """
        items, core, easy = self._items, dict.fromkeys(part), []
        is_changed = True
        while is_changed:
            is_changed = False
            for item in list(core):
                beside = [other for other in items.neighbours[item] if other in core]
                taken = sum(items.sizes[other] for other in beside)
                if items.sizes[item] * (len(beside) + 1) <= room - taken:
                    del core[item]
                    easy.append(item)
                    is_changed = True
        return list(core), easy

    def _place_in_gap(self, item: int, base: int) -> None:
        """Place an item in the lowest gap from an offset up that holds it."""
        sizes, reached = self._items.sizes, base
        taken = [(self.offsets[n], n) for n in self._items.neighbours[item] if n in self.offsets]
        for start, other in sorted(taken):
            if start - reached >= sizes[item]:
                break
            reached = max(reached, start + sizes[other])
        self.offsets[item] = reached
