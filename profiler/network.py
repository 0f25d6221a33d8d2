"""A network as an ordered list of operator calls, and many networks as a count matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.generic import TensorType
from profiler.operator import Operator, Shape


@dataclass(frozen=True, slots=True)
class Call:
    """One operator applied to named tensors.

    Attributes:
        operator: What is computed.
        inputs: Names of the data inputs, in the order of `operator.input_shapes`.
        output: Name of the tensor it makes; no other call makes it.
        weights: Names of the parameters, in the order of `operator.weight_shapes`.
        more_outputs: Names of the tensors after the first, where the operator makes several.
    """

    operator: Operator
    inputs: tuple[str, ...]
    output: str
    weights: tuple[str, ...] = ()
    more_outputs: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all tensors it makes, in the order of `operator.output_types`."""
        return (self.output, *self.more_outputs)


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network; calls are in an order that can be executed.

    Tensors of our own operators are NHWC. A tensor may be read with another shape than it was made
    with, as long as it has as many elements: reshaping costs nothing.

    Attributes:
        name: What a person calls it, such as `nas_bench_macro:22212220`.
        inputs: (name, shape) of each input.
        calls: The operators in order of execution.
        outputs: Names of the tensors that are the result.
    """

    name: str
    inputs: tuple[tuple[str, Shape], ...]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        types = {name: TensorType(shape, self._input_dtype(name)) for name, shape in self.inputs}
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
            for name, wanted in zip(call.inputs, call.operator.input_types, strict=True):
                if name not in types:
                    raise ValueError(f"{call.output} reads {name!r} before anything makes it")
                made = types[name]
                if (made.n_elements, made.dtype) != (wanted.n_elements, wanted.dtype):
                    raise ValueError(
                        f"{call.output} reads {name!r} as {wanted.text}, it is {made.text}"
                    )
            for name, kind in zip(call.outputs, call.operator.output_types, strict=True):
                if name in types:
                    raise ValueError(f"{name!r} is made twice")
                types[name] = kind
        for name in self.outputs:
            if name not in types:
                raise ValueError(f"output {name!r} is made by no call")

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators in order of execution, with repetitions."""
        return tuple(call.operator for call in self.calls)

    @property
    def types(self) -> dict[str, TensorType]:
        """Shape and element type of every activation, inputs first, then in order of calls."""
        types = {name: TensorType(shape, self._input_dtype(name)) for name, shape in self.inputs}
        for call in self.calls:
            types.update(zip(call.outputs, call.operator.output_types, strict=True))
        return types

    def _input_dtype(self, name: str) -> str:
        """What the calls read it as; float32 where none does."""
        for call in self.calls:
            if name in call.inputs:
                return call.operator.input_types[call.inputs.index(name)].dtype
        return "float32"

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
