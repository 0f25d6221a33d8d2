"""Tensors of a program as its model has them: names, shapes and element types of whoever wrote it.

Our own subnets have NCHW images outside and NHWC tensors inside; an imported model's tensors lie in
memory in its own order of axes, so that only their shapes may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.device import Tensor
from profiler.onnx_export import to_nchw, to_nhwc

Array = NDArray[Any]
Shape = tuple[int, ...]


def place_inputs(
    inputs: Mapping[str, Array],
    indices: Mapping[str, int],
    tensors: tuple[Tensor, ...],
    shapes: Mapping[str, Shape] | None,
) -> dict[int, Array]:
    """Put inputs that a person gives by name under the indices of a program's tensors.

    Args:
        inputs: As the model has them.
        indices: The index of each input's tensor.
        tensors: The program's.
        shapes: The model's own shapes by name; None for NCHW images.

    Raises:
        ValueError: an input is missing, unknown, or has the wrong shape or element type.
    """
    if set(inputs) != set(indices):
        raise ValueError(f"inputs must be {', '.join(indices)}, got {', '.join(inputs) or 'none'}")
    placed = {}
    for name, index in indices.items():
        tensor, array = tensors[index], inputs[name]
        if shapes is None:
            n, h, w, c = tensor.shape
            wanted: Shape = (n, c, h, w)
        else:
            wanted = tuple(shapes[name])
        if array.shape != wanted:
            raise ValueError(f"input {name} must have shape {wanted}, got {array.shape}")
        typed = _typed(name, array, tensor.dtype)
        placed[index] = to_nhwc(typed) if shapes is None else typed.reshape(tensor.shape)
    return placed


def read_outputs(
    arrays: Mapping[int, Array], indices: Mapping[str, int], shapes: Mapping[str, Shape] | None
) -> dict[str, Array]:
    """A program's outputs by name, as the model has them; see `place_inputs`."""
    if shapes is None:
        return {name: to_nchw(arrays[index]) for name, index in indices.items()}
    return {name: arrays[index].reshape(shapes[name]) for name, index in indices.items()}


def _typed(name: str, array: Array, dtype: str) -> Array:
    """An array in another element type of the same sort, as long as no integer changes."""
    if array.dtype == dtype:
        return array
    typed = array.astype(dtype) if np.can_cast(array.dtype, dtype, "same_kind") else None
    is_exact = dtype.startswith("float") or (typed is not None and np.array_equal(typed, array))
    if typed is None or not is_exact:
        raise ValueError(f"input {name} must be {dtype}, got {array.dtype} that does not fit it")
    return typed
