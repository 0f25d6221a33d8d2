"""An interpreter of `Network`s in torch functions, written from the words of profiler.operator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from profiler.network import Call, Network

_ACTIVATIONS = {
    "relu": functional.relu,
    "hard_swish": lambda x: x * torch.clamp(x + 3.0, 0.0, 6.0) / 6.0,
    "hard_sigmoid": lambda x: torch.clamp(x + 3.0, 0.0, 6.0) / 6.0,
}


def run_network(
    network: Network, weights: Mapping[str, np.ndarray], image: np.ndarray
) -> np.ndarray:
    """Outputs of a one-input, one-output network on one NHWC image."""
    tensors = {network.inputs[0][0]: torch.from_numpy(image).double()}
    for call in network.calls:
        parameters = [torch.from_numpy(weights[name]).double() for name in call.weights]
        assert tuple(tuple(p.shape) for p in parameters) == call.operator.weight_shapes
        tensors[call.output] = _run(call, [tensors[name] for name in call.inputs], parameters)
        assert tuple(tensors[call.output].shape) == call.operator.output_shape
    return tensors[network.outputs[0]].numpy()


def _run(call: Call, inputs: list[torch.Tensor], parameters: list[torch.Tensor]) -> torch.Tensor:
    operator = call.operator
    x = inputs[0]
    if operator.kind in {"conv2d", "depthwise_conv2d"}:
        kernel = parameters[0]
        groups = 1
        if operator.kind == "depthwise_conv2d":
            kernel, groups = kernel[:, :, None, :], kernel.shape[2]
        assert operator.padding[:2] == operator.padding[2:]
        y = functional.conv2d(
            x.permute(0, 3, 1, 2),
            kernel.permute(3, 2, 0, 1),
            stride=operator.stride,
            padding=operator.padding[:2],
            groups=groups,
        ).permute(0, 2, 3, 1)
    elif operator.kind == "dense":
        y = x @ parameters[0]
    elif operator.kind == "global_avg_pool2d":
        y = x.mean(dim=(1, 2), keepdim=True)
    else:
        assert operator.kind == "scale"
        y = x * inputs[1]
    for step in operator.epilogue:
        if step == "bias":
            y = y + parameters[-1]
        elif step == "add":
            y = y + inputs[-1]
        else:
            y = _ACTIVATIONS[step](y)
    return y
