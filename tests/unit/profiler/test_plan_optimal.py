"""The smallest arena, against brute force and against what is known to be hard."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.plan_optimal import Packing, pack_optimally
from profiler.plan_pack import Items, make_items, pack

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
