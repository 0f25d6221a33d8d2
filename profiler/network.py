"""A network as an ordered list of operator calls, and many networks as a count matrix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.operator import Operator, Shape


@dataclass(frozen=True, slots=True)
class Call:
    """One operator applied to named tensors.

    Attributes:
        operator: What is computed.
        inputs: Names of the data inputs, in the order of `operator.input_shapes`.
        output: Name of the tensor it makes; no other call makes it.
        weights: Names of the parameters, in the order of `operator.weight_shapes`.
    """

    operator: Operator
    inputs: tuple[str, ...]
    output: str
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network; tensors are NHWC, calls are in an order that can be executed.

    Attributes:
        name: What a person calls it, such as `nas_bench_macro:22212220`.
        inputs: (name, shape) of each input, shape in NHWC.
        calls: The operators in order of execution.
        outputs: Names of the tensors that are the result.
    """

    name: str
    inputs: tuple[tuple[str, Shape], ...]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = dict(self.inputs)
        for call in self.calls:
            if len(call.inputs) != len(call.operator.input_shapes):
                raise ValueError(
                    f"{call.output}: {call.operator.kind} takes "
                    f"{len(call.operator.input_shapes)} inputs, got {len(call.inputs)}"
                )
            if len(call.weights) != len(call.operator.weight_shapes):
                raise ValueError(
                    f"{call.output}: {call.operator.kind} takes "
                    f"{len(call.operator.weight_shapes)} weights, got {len(call.weights)}"
                )
            for name, shape in zip(call.inputs, call.operator.input_shapes, strict=True):
                if name not in shapes:
                    raise ValueError(f"{call.output} reads {name!r} before anything makes it")
                if math.prod(shapes[name]) != math.prod(shape):
                    raise ValueError(
                        f"{call.output} reads {name!r} as {shape}, it has shape {shapes[name]}"
                    )
            if call.output in shapes:
                raise ValueError(f"{call.output!r} is made twice")
            shapes[call.output] = call.operator.output_shape
        for name in self.outputs:
            if name not in shapes:
                raise ValueError(f"output {name!r} is made by no call")

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators in order of execution, with repetitions."""
        return tuple(call.operator for call in self.calls)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(operator.weight_bytes for operator in self.operators)


@dataclass(frozen=True, slots=True)
class OperatorCounts:
    """Many networks at once, as how often each holds each operator.

    Attributes:
        operators: The columns.
        counts: Shape (n_networks, n_operators), float64, whole numbers.
    """

    operators: tuple[Operator, ...]
    counts: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or self.counts.shape[1] != len(self.operators):
            raise ValueError(
                f"counts must have shape (n_networks, {len(self.operators)}), "
                f"got {self.counts.shape}"
            )


def count_operators(networks: Sequence[Sequence[Operator]]) -> OperatorCounts:
    """Count the operators of each network; columns in order of first appearance."""
    columns: dict[Operator, int] = {}
    for operators in networks:
        for operator in operators:
            columns.setdefault(operator, len(columns))
    counts = np.zeros((len(networks), len(columns)))
    for row, operators in enumerate(networks):
        for operator, n_times in Counter(operators).items():
            counts[row, columns[operator]] = n_times
    return OperatorCounts(tuple(columns), counts)
