from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.importers import order


@st.composite
def placed(draw: st.DrawFn) -> tuple[tuple[int, ...], order.Order]:
    """A shape and an order in which its axes lie."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    return shape, tuple(draw(st.permutations(range(len(shape)))))


@st.composite
def cut_anew(draw: st.DrawFn) -> tuple[tuple[int, ...], order.Order, tuple[int, ...]]:
    """The same, and a shape with as many elements."""
    shape, axes = draw(placed())
    left, new_shape = math.prod(shape), []
    while left > 1:
        divisors = [n for n in range(2, left + 1) if left % n == 0]
        new_shape.append(draw(st.sampled_from(divisors)))
        left //= new_shape[-1]
    for _ in range(draw(st.integers(0, 2))):
        new_shape.insert(draw(st.integers(0, len(new_shape))), 1)
    return shape, axes, tuple(new_shape)


def _stored(array: np.ndarray, axes: order.Order) -> np.ndarray:
    return array.transpose(axes).reshape(-1)


def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


@given(placed(), st.randoms())
def test_a_transpose_only_renames_axes(
    case: tuple[tuple[int, ...], order.Order], random: object
) -> None:
    shape, axes = case
    renamed = list(range(len(shape)))
    random.shuffle(renamed)  # type: ignore[attr-defined]
    array = _numbered(shape)
    result = array.transpose(renamed)
    new_axes = order.transposed(axes, renamed)
    np.testing.assert_array_equal(_stored(array, axes), _stored(result, new_axes))
    assert order.stored_shape(result.shape, new_axes) == order.stored_shape(shape, axes)


@given(cut_anew())
def test_a_reshape_that_moves_nothing_keeps_every_number_in_place(
    case: tuple[tuple[int, ...], order.Order, tuple[int, ...]],
) -> None:
    shape, axes, new_shape = case
    array = _numbered(shape)
    new_axes = order.reshaped(shape, axes, new_shape)
    if new_axes is not None:
        moved = _stored(array.reshape(new_shape), new_axes)
        np.testing.assert_array_equal(moved, _stored(array, axes))


@given(cut_anew())
def test_from_the_movable_order_a_reshape_moves_nothing(
    case: tuple[tuple[int, ...], order.Order, tuple[int, ...]],
) -> None:
    shape, axes, new_shape = case
    moved = order.movable(shape, axes, new_shape)
    assert sorted(moved) == list(range(len(shape)))
    assert order.reshaped(shape, moved, new_shape) is not None


@given(placed(), st.data())
def test_orders_are_the_same_memory_just_where_their_numbers_are(
    case: tuple[tuple[int, ...], order.Order], data: st.DataObject
) -> None:
    shape, axes = case
    other = tuple(data.draw(st.permutations(range(len(shape)))))
    array = _numbered(shape)
    is_same = bool(np.array_equal(_stored(array, axes), _stored(array, other)))
    assert order.is_same_memory(shape, axes, other) == is_same


def test_a_reshape_keeps_the_number_of_elements() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3\) to \(5,\)"):
        order.movable((2, 3), (0, 1), (5,))
