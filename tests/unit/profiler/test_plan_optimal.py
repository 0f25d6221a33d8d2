"""The smallest arena, against brute force and against what is known to be hard."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.plan_optimal import Packing, pack_optimally
from profiler.plan_pack import Items, make_items, pack
from profiler.plan_program import solve

from .plan_networks import least_arena

Rectangle = tuple[int, int, int]


def items_of(rectangles: Sequence[Rectangle]) -> Items:
    """Items from (first, last, size)."""
    spans = [(min(first, last), max(first, last)) for first, last, _ in rectangles]
    return make_items(spans, [size for *_, size in rectangles])


def assert_is_packed(items: Items, packing: Packing) -> None:
    for i, near in enumerate(items.neighbours):
        for j in near:
            low, high = sorted((i, j), key=lambda item: packing.offsets[item])
            assert packing.offsets[low] + items.sizes[low] <= packing.offsets[high]
    ends = [o + s for o, s in zip(packing.offsets, items.sizes, strict=True)]
    assert packing.arena_bytes == max(ends)
    assert min(packing.offsets) >= 0


def live_sets(items: Items) -> list[set[int]]:
    n_positions = 1 + max(last for _, last in items.spans)
    return [
        {i for i, (first, last) in enumerate(items.spans) if first <= position <= last}
        for position in range(n_positions)
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 2, st.integers(1, 9)), min_size=1, max_size=6))
def test_the_smallest_arena_is_that_of_brute_force(rectangles: list[Rectangle]) -> None:
    items = items_of(rectangles)
    packing = pack_optimally(items, 1, 30.0)
    assert_is_packed(items, packing)
    assert packing.is_optimal
    assert packing.arena_bytes == least_arena(items.sizes, live_sets(items))
    assert items.least_bytes == max(sum(items.sizes[i] for i in live) for live in live_sets(items))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 20)] * 2, st.integers(1, 99)), min_size=1, max_size=30))
def test_heuristics_pack_without_overlap(rectangles: list[Rectangle]) -> None:
    items = items_of(rectangles)
    offsets, arena_bytes = pack(items)
    assert_is_packed(items, Packing(offsets, arena_bytes, False))
    assert items.least_bytes <= arena_bytes <= sum(items.sizes)


#: (first, last, size): 19 are live at once at the most, but no packing needs fewer than 20.
GAP = (
    (8, 9, 8), (5, 7, 9), (9, 10, 6), (4, 8, 2), (2, 4, 10), (1, 5, 3), (1, 3, 6), (7, 8, 4),
    (6, 10, 4), (5, 5, 5),
)  # fmt: skip
#: Fits into the 81 that are live at once, as the heuristics do not see.
HARD = (
    (0, 3, 9), (4, 5, 5), (0, 2, 10), (0, 1, 9), (1, 3, 8), (5, 5, 1), (3, 5, 9), (2, 3, 11),
    (3, 5, 5), (0, 3, 4), (4, 4, 1), (0, 2, 11), (3, 5, 9), (4, 5, 6), (1, 3, 9), (2, 4, 3),
    (1, 1, 6), (2, 2, 2), (0, 3, 3), (0, 4, 11), (5, 5, 3),
)  # fmt: skip


def fits(items: Items, arena: int, offsets: tuple[int, ...] = ()) -> bool:
    """Whether the items fit into an arena: every offset of each, one item after another."""
    item = len(offsets)
    if item == len(items.sizes):
        return True
    size = items.sizes[item]
    beside = [(offsets[n], items.sizes[n]) for n in items.neighbours[item] if n < item]
    return any(
        fits(items, arena, (*offsets, offset))
        for offset in range(arena - size + 1)
        if all(offset + size <= start or start + n <= offset for start, n in beside)
    )


def test_more_than_is_live_at_once_is_proved_where_no_packing_needs_less() -> None:
    items = items_of(GAP)
    packing = pack_optimally(items, 1, 30.0)
    assert_is_packed(items, packing)
    assert (items.least_bytes, packing.arena_bytes, packing.is_optimal) == (19, 20, True)
    assert fits(items, 20)
    assert not fits(items, 19)


def test_the_program_finds_what_heuristics_do_not() -> None:
    items = items_of(HARD)
    assert pack(items)[1] > items.least_bytes
    starts, is_proved = solve(items, 81, 81, 1, 30.0)
    assert starts is not None
    assert is_proved
    assert_is_packed(items, Packing(tuple(map(round, starts)), 81, is_optimal=True))


def test_the_program_proves_that_there_is_no_packing() -> None:
    assert solve(items_of(GAP), 19, 19, 1, 30.0) == (None, True)


@pytest.mark.parametrize("rectangles", [GAP, HARD], ids=["gap", "hard"])
def test_sizes_are_counted_in_units(rectangles: Sequence[Rectangle]) -> None:
    scaled = items_of([(first, last, 64 * size) for first, last, size in rectangles])
    packing = pack_optimally(scaled, 64, 30.0)
    assert packing.is_optimal
    assert packing.arena_bytes == 64 * pack_optimally(items_of(rectangles), 1, 30.0).arena_bytes
    assert all(offset % 64 == 0 for offset in packing.offsets)


def test_without_time_the_best_known_is_returned_and_nothing_is_claimed() -> None:
    items = items_of(GAP)
    packing = pack_optimally(items, 1, 0.0)
    assert_is_packed(items, packing)
    assert packing.arena_bytes == pack(items)[1]
    assert not packing.is_optimal
