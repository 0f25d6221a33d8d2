"""Relax operations in numpy: for constants, and to recognise what a group of nodes computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from profiler.importers.graph import Graph, Node, Value, constant

Array = NDArray[Any]


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), x.dtype)


#: Operations of which each number of the output depends on the same place of the inputs alone.
ELEMENTWISE: Final[dict[str, Callable[..., Any]]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "negative": np.negative,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "square": np.square,
    "tanh": np.tanh,
    "erf": erf,
    "abs": np.abs,
    "sigmoid": _sigmoid,
    "nn.relu": lambda x: np.maximum(x, 0),
    "nn.silu": lambda x: x * _sigmoid(x),
    "nn.gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "identity": lambda x: x,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "sign": np.sign,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_not": np.logical_not,
    "where": np.where,
}


def is_elementwise(node: Node) -> bool:
    """Whether `evaluate` computes a node place by place."""
    return node.op in ELEMENTWISE or node.op == "clip"


def evaluate(node: Node, arrays: list[Array]) -> Array | None:
    """What a node makes of arrays, or None where this module does not know."""
    op, attributes = node.op, node.attributes
    if op == "clip":
        result = np.clip(arrays[0], attributes["argument1"], attributes["argument2"])
    elif op in ELEMENTWISE:
        with np.errstate(all="ignore"):
            result = ELEMENTWISE[op](*arrays)
    elif op == "permute_dims":
        axes = attributes.get("axes")
        result = np.transpose(arrays[0], None if axes is None else axes)
    elif op in {"reshape", "squeeze", "expand_dims", "flatten", "broadcast_to"}:
        shape = node.output.shape
        broadcast = op == "broadcast_to"
        result = np.broadcast_to(arrays[0], shape) if broadcast else arrays[0].reshape(shape)
    elif op == "astype":
        result = arrays[0].astype(node.output.type.dtype)
    elif op == "concat":
        result = np.concatenate(arrays, axis=attributes.get("axis") or 0)
    elif op == "matmul":
        result = np.matmul(*arrays)
    elif op == "take":
        result = np.take(arrays[0], arrays[1], axis=attributes.get("axis"))
    elif op == "strided_slice":
        result = _sliced(arrays[0], attributes)
    else:
        return None
    return np.asarray(result, node.output.type.dtype)


def _sliced(array: Array, attributes: Mapping[str, Any]) -> Array:
    axes, begins, ends = (attributes[f"argument{i}"] for i in (1, 2, 3))
    strides = attributes.get("argument4", [1] * len(axes))
    index = [slice(None)] * array.ndim
    for axis, begin, end, stride in zip(axes, begins, ends, strides, strict=True):
        index[axis] = slice(begin, end, stride)
    return array[tuple(index)]


def fold_constants(graph: Graph) -> None:
    """Compute every node of known inputs that numpy can compute."""
    kept: list[Node] = []
    for node in graph.nodes:
        if len(node.outputs) == 1 and all(value.array is not None for value in node.inputs):
            result = evaluate(node, [v.array for v in node.inputs if v.array is not None])
            if result is not None:
                node.output.array = constant(result).array
                continue
        kept.append(node)
    graph.nodes = kept


#: No activation of our operators, but `hard_sigmoid` of six times as much less three.
UNIT_CLIP: Final = "unit_clip"
#: Activations of our operators' epilogues, over the points at which they are told apart.
_POINTS: Final = np.concatenate([np.linspace(-12, 12, 193), [-80.0, 80.0]]).astype(np.float32)
_ACTIVATIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "swish": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    UNIT_CLIP: lambda x: np.clip(x, 0, 1),
}
_MOST_NODES: Final = 8


def find_activation(
    value: Value, readers: dict[Value, list[Node]], outputs: set[Value]
) -> tuple[str, list[Node]] | None:
    """The activation that is all that anybody reads of a value, and the nodes that make it.

    Recognised by what it computes, not by how it is written: the nodes between the value and the
    last of them are evaluated at points and compared with each activation.

    Args:
        value: What is activated.
        readers: Nodes that read each value.
        outputs: The model's outputs, which must not be hidden inside.
    """
    region: list[Node] = []
    arrays: dict[Value, Array] = {value: _POINTS}
    found: tuple[str, list[Node]] | None = None
    while len(region) < _MOST_NODES:
        following = [
            node
            for known in arrays
            for node in readers.get(known, ())
            if node not in region and _depends_on(node, arrays)
        ]
        if not following:
            return found
        node = following[0]
        result = evaluate(node, [_points(v, arrays) for v in node.inputs])
        if result is None or result.shape != _POINTS.shape:
            return found
        region.append(node)
        arrays[node.output] = result
        inner = [v for v in arrays if v is not node.output]
        if any(v in outputs or any(n not in region for n in readers.get(v, ())) for v in inner):
            continue
        name = _activation_of(result)
        if name is not None:
            found = name, list(region)
    return found


def _activation_of(result: Array) -> str | None:
    """The activation that makes this of the points."""
    for name, activation in _ACTIVATIONS.items():
        if np.allclose(result, activation(_POINTS), rtol=1e-5, atol=1e-6):
            return name
    return None


def _depends_on(node: Node, arrays: dict[Value, Array]) -> bool:
    """Whether a node needs nothing but known values and single numbers, place by place."""
    return is_elementwise(node) and all(
        value in arrays or (value.array is not None and value.array.size == 1)
        for value in node.inputs
    )


def _points(value: Value, arrays: dict[Value, Array]) -> Array:
    return arrays[value] if value in arrays else np.asarray(value.array).reshape(())
