"""Weights for models that were published without theirs.

Some files keep their size small by a ConstantOfShape in place of each weight. All its values are
equal, so a network of them computes nothing: any comparison of outputs would pass.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

#: Smaller constants are numbers of the computation, not weights.
_LEAST_ELEMENTS: Final = 8
#: Ranges of a batch-norm's scale and variance: residual sums must not grow from block to block.
_RANGES: Final = {("BatchNormalization", 1): (0.2, 0.6), ("BatchNormalization", 4): (0.5, 1.5)}


def replace_placeholders(model: onnx.ModelProto, seed: int) -> None:
    """Put seeded random weights where the model has a ConstantOfShape of a stored shape.

    Uniform with the variance that keeps a signal's (He et al. 2015, eq. 10).
    """
    graph = model.graph
    stored = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                stored[node.output[0]] = value
    readers: dict[str, tuple[onnx.NodeProto, int]] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            readers.setdefault(name, (node, position))
    kept = []
    rng = np.random.default_rng(seed)
    for node in graph.node:
        shape = stored.get(node.input[0]) if node.op_type == "ConstantOfShape" else None
        dims = tuple(int(d) for d in numpy_helper.to_array(shape)) if shape is not None else ()
        if math.prod(dims) < _LEAST_ELEMENTS or shape is None or not _is_float(node):
            kept.append(node)
            continue
        array = _draw(dims, readers.get(node.output[0]), rng)
        graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)


def _is_float(node: onnx.NodeProto) -> bool:
    value = next((a.t for a in node.attribute if a.name == "value"), None)
    return value is None or value.data_type == onnx.TensorProto.FLOAT


def _draw(
    dims: tuple[int, ...],
    reader: tuple[onnx.NodeProto, int] | None,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    bounds = None if reader is None else _RANGES.get((reader[0].op_type, reader[1]))
    if bounds is not None:
        return rng.uniform(*bounds, dims).astype(np.float32)
    if len(dims) < 2:
        return rng.uniform(-0.1, 0.1, dims).astype(np.float32)
    is_conv = reader is not None and reader[0].op_type == "Conv"
    fan_in = math.prod(dims[1:]) if is_conv else _fan_in_of_product(dims, reader)
    scale = math.sqrt(6 / fan_in)
    return (rng.random(dims, dtype=np.float32) * 2 - 1) * np.float32(scale)


def _fan_in_of_product(dims: tuple[int, ...], reader: tuple[onnx.NodeProto, int] | None) -> int:
    """Rows of a (k, n) matrix; columns where a Gemm reads it transposed."""
    is_transposed = (
        reader is not None
        and reader[0].op_type == "Gemm"
        and any(a.name == "transB" and a.i for a in reader[0].attribute)
    )
    return dims[1] if is_transposed else dims[-2]
