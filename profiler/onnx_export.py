"""A network with its weights as an ONNX model, in ONNX's own layout (NCHW)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from profiler.network import Call, Network
from profiler.operator import Operator, Shape
from profiler.pairs import split_pairs

Array = NDArray[np.float32]

OPSET = 17
_IR_VERSION = 8  # the first that goes with opset 17: old runtimes refuse newer ones


def export_onnx(network: Network, weights: Mapping[str, Array] | None) -> onnx.ModelProto:
    """Write a network as an ONNX model, batch-norm already folded into its weights.

    Args:
        network: The network, NHWC.
        weights: Logical weights (`Operator.weight_shapes`) under the names of the calls; None puts
            placeholders in their place, which a runtime expands when it loads the model.

    Returns:
        A checked model whose inputs and outputs are NCHW, outputs of shape (n, 1, 1, c) as (n, c).
    """
    network = split_pairs(network)
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, onnx.TensorProto] = {}
    shapes: dict[str, Shape] = dict(network.inputs)
    # Calls may read an output, too: they see all its dimensions, under a name of its own.
    inner: dict[str, str] = {}
    for call in network.calls:
        shapes[call.output] = call.operator.output_shape
        if call.output in network.outputs and call.operator.output_shape[1:3] == (1, 1):
            inner[call.output] = f"{call.output}.nchw"
        nodes += _nodes(call, inner, weights, initializers)
    nodes += [helper.make_node("Flatten", [source], [name]) for name, source in inner.items()]
    graph = helper.make_graph(
        nodes,
        "latloop",
        [_value(name, _nchw(shape)) for name, shape in network.inputs],
        [_value(name, _flat(_nchw(shapes[name]))) for name in network.outputs],
        list(initializers.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="latloop"
    )
    model.ir_version = _IR_VERSION
    model.metadata_props.add(key="network", value=network.name)
    onnx.checker.check_model(model, full_check=True)
    return model


def to_nchw(array: Array) -> Array:
    """A tensor of the program (NHWC) as the ONNX model has it."""
    moved = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    return moved.reshape(_flat(moved.shape))


def to_nhwc(array: Array) -> Array:
    """An input of the ONNX model (NCHW) as the program wants it."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def _nchw(shape: Shape) -> Shape:
    n, h, w, c = shape
    return (n, c, h, w)


def _flat(shape: Shape) -> Shape:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _value(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _nodes(
    call: Call,
    inner: Mapping[str, str],
    weights: Mapping[str, Array] | None,
    initializers: dict[str, onnx.TensorProto],
) -> list[onnx.NodeProto]:
    """The nodes of one call: placeholders of its weights, its kind, each step of its epilogue.

    Tensors that have another name within the graph are found in `inner`.
    """
    operator = call.operator
    nodes = [] if weights is not None else _placeholders(call, initializers)
    if weights is not None:
        for name, kind_weights in zip(call.weights, _onnx_weights(operator), strict=True):
            array = np.ascontiguousarray(kind_weights(weights[name]), np.float32)
            initializers[name] = numpy_helper.from_array(array, name)
    steps = [step for step in operator.epilogue if step != "bias"]
    inputs = [inner.get(name, name) for name in call.inputs]
    output = inner.get(call.output, call.output)
    # The last node writes the call's output, those before it tensors of their own.
    names = [*(f"{call.output}.step{index}" for index in range(len(steps))), output]
    n_data = 2 if operator.kind in {"add", "scale"} else 1
    nodes.append(
        helper.make_node(
            _ONNX_KINDS[operator.kind],
            [*inputs[:n_data], *call.weights],
            [names[0]],
            **_geometry(operator),
        )
    )
    for step, (source, result) in zip(steps, pairwise(names), strict=True):
        nodes += _step_nodes(step, source, result, inputs[-1])
    return nodes


def _placeholders(call: Call, initializers: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Nodes that make each weight out of its shape and one number.

    No two numbers are alike, lest a runtime let weights of one shape share their memory.
    """
    nodes = []
    logical = zip(
        call.weights, call.operator.weight_shapes, _onnx_weights(call.operator), strict=True
    )
    for name, shape, kind_weights in logical:
        extents = f"{name}.extents"
        if extents in initializers:
            continue
        wanted = kind_weights(np.broadcast_to(np.float32(0), shape)).shape
        # Sums of as many products as go into one output keep the size of a signal.
        number = (1 + 1e-4 * len(initializers)) / max(math.prod(wanted[1:]), 1)
        initializers[extents] = numpy_helper.from_array(np.array(wanted, np.int64), extents)
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [number])
        nodes.append(helper.make_node("ConstantOfShape", [extents], [name], value=value))
    return nodes


_ONNX_KINDS = {
    "conv2d": "Conv",
    "depthwise_conv2d": "Conv",
    "dense": "Conv",  # keeps (n, c, 1, 1), so that nothing needs reshaping in between
    "avg_pool2d": "AveragePool",
    "max_pool2d": "MaxPool",
    "global_avg_pool2d": "GlobalAveragePool",
    "add": "Add",
    "scale": "Mul",
}


def _onnx_weights(operator: Operator) -> list[Callable[[Array], Array]]:
    """How each logical weight becomes ONNX's (kernels: output, input / groups, height, width)."""
    kernels: dict[str, Callable[[Array], Array]] = {
        "conv2d": lambda w: w.transpose(3, 2, 0, 1),
        "depthwise_conv2d": lambda w: w.transpose(2, 0, 1)[:, None],
        "dense": lambda w: w.T[:, :, None, None],
    }
    return [kernels.get(operator.kind, np.asarray), np.asarray][: len(operator.weight_shapes)]


def _geometry(operator: Operator) -> dict[str, object]:
    if operator.kind == "dense":
        return {"kernel_shape": [1, 1]}
    if operator.kind not in {"conv2d", "depthwise_conv2d", "avg_pool2d", "max_pool2d"}:
        return {}
    window: dict[str, object] = {
        "kernel_shape": list(operator.kernel),
        "strides": list(operator.stride),
        "pads": list(operator.padding),
    }
    if operator.kind == "avg_pool2d":
        return window | {"count_include_pad": 1}
    window["dilations"] = list(operator.dilation)
    if operator.kind == "max_pool2d":
        return window
    is_depthwise = operator.kind == "depthwise_conv2d"
    return window | {"group": operator.out_channels if is_depthwise else operator.groups}


def _step_nodes(step: str, source: str, result: str, residual: str) -> list[onnx.NodeProto]:
    if step == "add":
        return [helper.make_node("Add", [source, residual], [result])]
    if step == "relu6":
        bounds = [f"{result}.low", f"{result}.high"]
        constants = [
            helper.make_node("Constant", [], [name], value_float=value)
            for name, value in zip(bounds, (0.0, 6.0), strict=True)
        ]
        return [*constants, helper.make_node("Clip", [source, *bounds], [result])]
    if step == "swish":
        gate = f"{result}.gate"
        return [
            helper.make_node("Sigmoid", [source], [gate]),
            helper.make_node("Mul", [source, gate], [result]),
        ]
    if step == "gelu":
        return _gelu_nodes(source, result)
    if step == "hard_sigmoid":
        return [helper.make_node("HardSigmoid", [source], [result], alpha=1 / 6, beta=0.5)]
    names = {"relu": "Relu", "hard_swish": "HardSwish", "sigmoid": "Sigmoid"}
    return [helper.make_node(names[step], [source], [result])]


def _gelu_nodes(source: str, result: str) -> list[onnx.NodeProto]:
    """Half of x (1 + erf(x / sqrt 2)), as opsets below 20 and every runtime know it."""
    numbers = {f"{result}.root": 0.5**0.5, f"{result}.one": 1.0, f"{result}.half": 0.5}
    root, one, half = numbers
    steps = (
        ("Mul", [source, root]), ("Erf", [f"{result}.0"]), ("Add", [f"{result}.1", one]),
        ("Mul", [source, f"{result}.2"]), ("Mul", [f"{result}.3", half]),
    )  # fmt: skip
    outputs = [f"{result}.{i}" for i in range(4)] + [result]
    return [
        *(helper.make_node("Constant", [], [name], value_float=n) for name, n in numbers.items()),
        *(
            helper.make_node(op, names, [made])
            for (op, names), made in zip(steps, outputs, strict=True)
        ),
    ]
