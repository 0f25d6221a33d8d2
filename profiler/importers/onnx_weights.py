"""Weights for models that were published without theirs.

Some files keep their size small by a ConstantOfShape in place of each weight. All its values are
equal, so a network of them computes nothing: any comparison of outputs would pass. The weights that
are drawn here keep a signal alive: mean and variance of each tensor are estimated on the way, each
layer brings its output's variance back to one, and the weights of each output sum to zero, since
the mean that rectified tensors have in common would drown what tells two inputs apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

#: Smaller constants are numbers of the computation, not weights.
_LEAST_ELEMENTS: Final = 8
#: Weights of fewer inputs are not made to sum to zero: little would be left of them.
_LEAST_FAN_IN: Final = 4
#: What only gives a tensor another shape.
_VIEWS: Final = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})
#: A mean over a whole image varies less than its pixels; how much less is a guess.
_POOLED_VARIANCE: Final = 1 / 16


@dataclass(frozen=True, slots=True)
class _Moments:
    """An estimate of a tensor's mean and variance."""

    mean: float = 0.0
    variance: float = 1.0

    @property
    def rectified(self) -> _Moments:
        """The same of what a ReLU makes of a normal variable (Frey & Hinton 1999)."""
        deviation = math.sqrt(self.variance)
        ratio = self.mean / deviation
        density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
        above = 0.5 * (1 + math.erf(ratio / math.sqrt(2)))
        mean = self.mean * above + deviation * density
        square = (self.mean**2 + self.variance) * above + self.mean * deviation * density
        return _Moments(mean, max(square - mean**2, 1e-6))


def replace_placeholders(model: onnx.ModelProto, seed: int) -> None:
    """Put seeded random weights where the model has a ConstantOfShape of a stored shape."""
    graph = model.graph
    shapes = _find_placeholders(graph)
    if not shapes:
        return
    rng = np.random.default_rng(seed)
    moments: dict[str, _Moments] = {}
    views: dict[str, str] = {name: name for name in shapes}
    drawn: set[str] = set()
    kept = []
    for node in graph.node:
        if node.output[0] in shapes:
            continue
        kept.append(node)
        if node.op_type in _VIEWS and node.input[0] in views:
            views[node.output[0]] = views[node.input[0]]
            continue
        before = moments.get(node.input[0], _Moments(0.0, 1 / 3)) if node.input else _Moments()
        for position, given in enumerate(node.input):
            name = views.get(given, "")
            if name and name not in drawn:
                array = _draw(shapes[name], node, position, before, rng)
                graph.initializer.append(numpy_helper.from_array(array, name))
                drawn.add(name)
        after = _after(node, [moments[name] for name in node.input if name in moments], before)
        moments.update(dict.fromkeys(node.output, after))
    for name in shapes.keys() - drawn:  # read by nobody but views
        graph.initializer.append(numpy_helper.from_array(np.ones(shapes[name], np.float32), name))
    del graph.node[:]
    graph.node.extend(kept)


def _find_placeholders(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the placeholders, by name."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {}
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            stored[node.output[0]] = value
        if node.op_type != "ConstantOfShape" or node.input[0] not in stored:
            continue
        dims = tuple(int(d) for d in numpy_helper.to_array(stored[node.input[0]]))
        is_float = value is None or value.data_type == onnx.TensorProto.FLOAT
        if is_float and math.prod(dims) >= _LEAST_ELEMENTS:
            shapes[node.output[0]] = dims
    return shapes


def _draw(
    dims: tuple[int, ...],
    node: onnx.NodeProto,
    position: int,
    before: _Moments,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """A weight for the node that reads it first."""
    axes = _fan_in_axes(node, position, len(dims))
    if axes is not None:
        return _draw_kernel(dims, axes, before, rng)
    low, high = -0.2, 0.2
    if node.op_type in {"Mul", "Div"}:
        low, high = 0.5, 1.5
    elif node.op_type == "BatchNormalization":
        deviation = math.sqrt(before.variance)
        low, high = {
            1: (0.5, 1.5),
            2: (-0.2, 0.2),
            3: (before.mean - 0.1 * deviation, before.mean + 0.1 * deviation),
            4: (0.8 * before.variance, 1.2 * before.variance),
        }[position]
    return rng.uniform(low, high, dims).astype(np.float32)


def _fan_in_axes(node: onnx.NodeProto, position: int, rank: int) -> tuple[int, ...] | None:
    """Axes over which a weight's products are summed; None if it is no factor of such sums."""
    if position != 1 or rank < 2:
        return None
    if node.op_type == "Conv":
        return tuple(range(1, rank))
    if node.op_type == "ConvTranspose":
        return (0, *range(2, rank))
    if node.op_type == "MatMul":
        return (rank - 2,)
    if node.op_type == "Gemm":
        is_transposed = any(a.name == "transB" and a.i for a in node.attribute)
        # Some files keep the matrix with axes of extent 1 before it.
        return (rank - 1,) if is_transposed else (rank - 2,)
    return None


def _draw_kernel(
    dims: tuple[int, ...], axes: tuple[int, ...], before: _Moments, rng: np.random.Generator
) -> NDArray[np.float32]:
    fan_in = math.prod(dims[axis] for axis in axes)
    kernel = rng.random(dims, dtype=np.float32)
    kernel -= np.float32(0.5)
    if fan_in >= _LEAST_FAN_IN:
        kernel -= kernel.mean(axes, keepdims=True)
    # Uniform numbers in an interval of length one have the variance 1 / 12.
    kernel *= np.float32(math.sqrt(12 / (fan_in * before.variance)))
    return kernel


def _after(node: onnx.NodeProto, given: list[_Moments], before: _Moments) -> _Moments:
    """An estimate of what a node makes."""
    op = node.op_type
    mean, variance = before.mean, before.variance
    if op == "Relu":
        return before.rectified
    if op in {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"}:
        mean, variance = 0.0, 1.0
    elif op == "MaxPool":
        mean += math.sqrt(variance)
    elif op in {"GlobalAveragePool", "ReduceMean"}:
        variance *= _POOLED_VARIANCE
    elif op in {"Add", "Sum"} and given:
        mean, variance = sum(m.mean for m in given), sum(m.variance for m in given)
    elif op == "Concat" and given:
        mean = sum(m.mean for m in given) / len(given)
        square = sum(m.variance + m.mean**2 for m in given) / len(given)
        variance = max(square - mean**2, 1e-6)
    return _Moments(mean, variance)
