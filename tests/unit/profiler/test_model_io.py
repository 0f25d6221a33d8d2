"""Inputs and outputs of a program by the names, shapes and element types of its model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from devices.device import Tensor
from profiler.model_io import place_inputs, read_outputs

TENSORS = (
    Tensor("arena", 0, (1, 2, 3, 4)),
    Tensor("arena", 128, (6, 4), dtype="int64"),
    Tensor("arena", 512, (), dtype="bool"),
)
INDICES = {"ids": 1, "flag": 2}
SHAPES = {"ids": (2, 3, 4), "flag": ()}


def test_images_are_nchw_outside_and_nhwc_inside() -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)
    placed = place_inputs({"image": image}, {"image": 0}, TENSORS, None)
    np.testing.assert_array_equal(placed[0], np.moveaxis(image, 1, -1))
    back = read_outputs(placed, {"image": 0}, None)
    np.testing.assert_array_equal(back["image"], image)


def test_tensors_of_an_imported_model_keep_their_order_and_take_its_shapes() -> None:
    ids, flag = np.arange(24).reshape(2, 3, 4), np.array(True)
    placed = place_inputs({"ids": ids, "flag": flag}, INDICES, TENSORS, SHAPES)
    assert placed[1].shape == (6, 4)
    assert placed[2].dtype == np.bool_
    back = read_outputs(placed, INDICES, SHAPES)
    np.testing.assert_array_equal(back["ids"], ids)
    assert back["flag"].shape == ()


@pytest.mark.parametrize("names", [("ids",), ("ids", "flag", "mask"), ()])
def test_missing_and_unknown_names_are_answered_with_those_wanted(names: tuple[str, ...]) -> None:
    given_arrays = {name: np.zeros(SHAPES.get(name, ()), np.int64) for name in names}
    with pytest.raises(
        ValueError, match=f"inputs must be ids, flag, got {', '.join(names) or 'n'}"
    ):
        place_inputs(given_arrays, INDICES, TENSORS, SHAPES)


def test_a_wrong_shape_is_answered_with_the_models_own() -> None:
    wrong = {"ids": np.zeros((6, 4), np.int64), "flag": np.array(True)}
    with pytest.raises(ValueError, match=r"ids must have shape \(2, 3, 4\), got \(6, 4\)"):
        place_inputs(wrong, INDICES, TENSORS, SHAPES)


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        ("int64", np.array([1.0])),
        ("int64", np.array(["a"])),
        ("bool", np.array([2])),
        ("int8", np.array([300])),
        ("float32", np.array([1j])),
    ],
)
def test_what_an_element_type_cannot_hold_is_refused(dtype: str, array: np.ndarray) -> None:
    tensor = Tensor("arena", 0, (1,), dtype=dtype)
    with pytest.raises(ValueError, match=f"input x must be {dtype}, got {array.dtype}"):
        place_inputs({"x": array}, {"x": 0}, (tensor,), {"x": (1,)})


@given(
    arrays.arrays(st.sampled_from([np.int8, np.int32, np.int64, np.bool_]), (3,)),
    st.sampled_from(["int8", "int16", "int32", "int64"]),
)
def test_integers_arrive_as_they_were_or_not_at_all(array: np.ndarray, dtype: str) -> None:
    tensor = Tensor("arena", 0, (3,), dtype=dtype)
    try:
        placed = place_inputs({"x": array}, {"x": 0}, (tensor,), {"x": (3,)})
    except ValueError:
        assert array.max() > np.iinfo(dtype).max or array.min() < np.iinfo(dtype).min
        return
    assert placed[0].dtype == dtype
    assert placed[0].tolist() == array.astype(int).tolist()


def test_numbers_of_numpys_usual_type_are_taken_for_float32() -> None:
    tensor = Tensor("arena", 0, (2,))
    for array in (np.array([0.5, 1.5]), np.array([1, 2])):
        placed = place_inputs({"x": array}, {"x": 0}, (tensor,), {"x": (2,)})
        assert placed[0].dtype == np.float32
        assert placed[0].tolist() == array.tolist()
