"""Depthwise convolutions joined with the pointwise ones that read them, and taken apart again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from profiler.layout import is_pointwise
from profiler.network import Call, Network
from profiler.operator import Operator, separable_operator


def join_pairs(network: Network) -> Network:
    """The network with a separable convolution in place of each pair.

    A pair is a depthwise convolution and the only call that reads it, a pointwise convolution.
    """
    makers = {call.output: call for call in network.calls}
    n_readers = Counter(name for call in network.calls for name in call.inputs)
    n_readers.update(network.outputs)
    joined: dict[str, Call] = {}
    gone: set[str] = set()
    for call in network.calls:
        first = makers.get(call.inputs[0]) if call.inputs else None
        if first is None or n_readers[first.output] > 1 or not _fit(first.operator, call.operator):
            continue
        operator = separable_operator(first.operator, call.operator)
        inputs = (*first.inputs, *call.inputs[1:])
        joined[call.output] = Call(operator, inputs, call.output, (*first.weights, *call.weights))
        gone.add(first.output)
    calls = (joined.get(call.output, call) for call in network.calls if call.output not in gone)
    return replace(network, calls=tuple(calls))


def split_pairs(network: Network) -> Network:
    """The network with two calls in place of each separable convolution."""
    calls = (part for call in network.calls for part in _split(call))
    return replace(network, calls=tuple(calls))


def _fit(first: Operator, second: Operator) -> bool:
    """Whether these are the depthwise and the pointwise half of a separable convolution."""
    return (
        first.kind == "depthwise_conv2d"
        and second.kind == "conv2d"
        and is_pointwise(second)
        and "add" not in first.epilogue
        and first.output_shape == second.input_shape
    )


def _split(call: Call) -> tuple[Call, ...]:
    if call.operator.kind != "separable_conv2d":
        return (call,)
    first, second = call.operator.depthwise, call.operator.pointwise
    n_weights = len(first.weight_shapes)
    between = f"{call.output}.depthwise"
    return (
        Call(first, call.inputs[:1], between, call.weights[:n_weights]),
        Call(second, (between, *call.inputs[1:]), call.output, call.weights[n_weights:]),
    )
