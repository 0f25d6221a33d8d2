"""An interpreter of `Network`s in torch functions, written from the words of profiler.operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from profiler.network import Network
from profiler.operator import Operator

_ACTIVATIONS = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "hard_swish": lambda x: x * torch.clamp(x + 3.0, 0.0, 6.0) / 6.0,
    "hard_sigmoid": lambda x: torch.clamp(x + 3.0, 0.0, 6.0) / 6.0,
    "swish": functional.silu,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
}


def run_network(
    network: Network, weights: Mapping[str, np.ndarray], image: np.ndarray
) -> np.ndarray:
    """Outputs of a one-input, one-output network on one NHWC image."""
    (output,) = interpret(network, weights, {network.inputs[0][0]: image}).values()
    return output


def interpret(
    network: Network, weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Outputs of a network by name, NHWC, computed in float64."""
    tensors = dict(inputs)
    for call in network.calls:
        tensors[call.output] = run_operator(
            call.operator,
            [tensors[name] for name in call.inputs],
            [weights[name] for name in call.weights],
        )
        assert tensors[call.output].shape == call.operator.output_shape
    return {name: tensors[name] for name in network.outputs}


def run_operator(
    operator: Operator, inputs: Sequence[np.ndarray], weights: Sequence[np.ndarray]
) -> np.ndarray:
    """An operator's output on NHWC inputs with logical weights, computed in float64."""
    assert tuple(array.shape for array in weights) == operator.weight_shapes
    if operator.kind == "separable_conv2d":
        n_first = len(operator.depthwise.weight_shapes)
        between = run_operator(operator.depthwise, inputs[:1], weights[:n_first])
        return run_operator(operator.pointwise, [between, *inputs[1:]], weights[n_first:])
    tensors = [torch.from_numpy(array).double() for array in inputs]
    parameters = [torch.from_numpy(array).double() for array in weights]
    y = _run_kind(operator, tensors, parameters)
    for step in operator.epilogue:
        if step == "bias":
            y = y + parameters[-1]
        elif step == "add":
            y = y + tensors[-1]
        else:
            y = _ACTIVATIONS[step](y)
    return y.numpy()


def _run_kind(
    operator: Operator, inputs: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]
) -> torch.Tensor:
    x = inputs[0]
    if operator.kind == "dense":
        return x @ parameters[0]
    if operator.kind == "global_avg_pool2d":
        return x.mean(dim=(1, 2), keepdim=True)
    if operator.kind == "add":
        return x + inputs[1]
    if operator.kind == "scale":
        return x * inputs[1]
    top, left, bottom, right = operator.padding
    outside = -torch.inf if operator.kind == "max_pool2d" else 0.0
    x = functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom), value=outside)
    if operator.kind == "max_pool2d":
        y = functional.max_pool2d(x, operator.kernel, operator.stride, dilation=operator.dilation)
    elif operator.kind == "avg_pool2d":
        y = functional.avg_pool2d(x, operator.kernel, operator.stride)
    elif operator.kind == "conv2d":
        kernel = parameters[0].permute(3, 2, 0, 1)
        groups = operator.groups
        y = functional.conv2d(x, kernel, None, operator.stride, 0, operator.dilation, groups)
    else:
        assert operator.kind == "depthwise_conv2d"
        kernel = parameters[0].permute(2, 0, 1)[:, None]
        n_groups = kernel.shape[0]
        y = functional.conv2d(x, kernel, None, operator.stride, 0, operator.dilation, n_groups)
    return y.permute(0, 2, 3, 1)
