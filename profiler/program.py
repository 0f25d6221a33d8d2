"""A network as the device runs it: kernel calls over one planned arena and one block of weights."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from devices.device import Fill, KernelCall, Tensor, Workload
from profiler.build import Kernel
from profiler.layout import argument_shapes, pack_weights
from profiler.network import Call, Network
from profiler.operator import Operator, Shape
from profiler.plan import ALIGNMENT_BYTES, ArenaPlan, in_order, plan_arena


@dataclass(frozen=True, slots=True)
class Program:
    """A network bound to kernels and places in memory.

    Attributes:
        network: What is computed, its calls in order of execution.
        kernels: The kernel of each distinct operator.
        workload: What the runner is asked to do; tensors that only differ in how a kernel sees
            them lie at the same place.
        inputs, outputs: Index in `workload.tensors` of each input and output, by name.
        weights: Index in `workload.tensors` of each weight, by name.
    """

    network: Network
    kernels: tuple[Kernel, ...]
    workload: Workload
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    weights: Mapping[str, int]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of the calls, their kernels and places."""
        tensors = [(t.region, t.offset_bytes, t.shape) for t in self.workload.tensors]
        calls = [asdict(call) for call in self.workload.calls]
        text = json.dumps([tensors, calls], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Places:
    """Tensors of a workload while it is assembled: each place, seen with each shape, once."""

    def __init__(self, network: Network, plan: ArenaPlan) -> None:
        self.tensors: dict[Tensor, int] = {}
        self.weights: dict[str, int] = {}
        self.weight_bytes = 0
        self._plan = plan
        self._inputs = {name for name, _ in network.inputs}
        self._dtypes = {name: kind.dtype for name, kind in network.types.items()}

    def activation(self, name: str, shape: Shape) -> int:
        """Index of an activation at its planned place; inputs are filled."""
        dtype = self._dtypes[name]
        is_filled = name in self._inputs and dtype == "float32"
        fill = Fill(_seed(name), 1.0) if is_filled else None
        return self._index(Tensor("arena", self._plan.offsets[name], shape, fill, dtype))

    def weight(self, name: str, shape: Shape, dtype: str, scale: float) -> int:
        """Index of a weight, placed behind those before it on first use."""
        if name not in self.weights:
            fill = Fill(_seed(name), scale) if dtype == "float32" else None
            tensor = Tensor("weights", self.weight_bytes, shape, fill, dtype)
            self.weights[name] = self._index(tensor)
            self.weight_bytes += _aligned(tensor.n_bytes)
        return self.weights[name]

    def bind(self, call: Call, kernel: Kernel) -> KernelCall:
        """The kernel's call on the tensors that the network's call names."""
        shapes = argument_shapes(call.operator, kernel.schedule)
        n_inputs, n_weights = len(call.inputs), len(call.weights)
        dtypes = [kind.dtype for kind in call.operator.weight_types]
        weights = zip(
            call.weights, shapes[n_inputs:], dtypes, _weight_scales(call.operator), strict=False
        )
        arguments = [
            *map(self.activation, call.inputs, shapes),
            *(self.weight(*weight) for weight in weights),
            *map(self.activation, call.outputs, shapes[n_inputs + n_weights :]),
        ]
        return KernelCall(kernel.name, tuple(arguments))

    def _index(self, tensor: Tensor) -> int:
        return self.tensors.setdefault(tensor, len(self.tensors))


def assemble(
    network: Network, kernels: Mapping[Operator, Kernel], plan: ArenaPlan | None = None
) -> Program:
    """Bind a network to kernels and places in memory; contents are hash-filled on the device.

    Args:
        network: The network; the program runs its calls in the order that the plan chooses.
        kernels: A kernel of each operator.
        plan: Where its tensors lie; None plans greedily.

    Raises:
        KeyError: an operator has no kernel.
    """
    plan = plan or plan_arena(network)
    network = in_order(network, plan.order)
    places = _Places(network, plan)
    calls = tuple(places.bind(call, kernels[call.operator]) for call in network.calls)
    types = network.types
    inputs = {name: places.activation(name, shape) for name, shape in network.inputs}
    outputs = {name: places.activation(name, types[name].shape) for name in network.outputs}
    return Program(
        network=network,
        kernels=tuple(dict.fromkeys(kernels[operator] for operator in network.operators)),
        workload=Workload(tuple(places.tensors), calls, plan.arena_bytes, places.weight_bytes),
        inputs=inputs,
        outputs=outputs,
        weights=places.weights,
    )


def alone(operator: Operator) -> Network:
    """A network of one call, to time an operator by itself."""
    names = [f"input{index}" for index in range(len(operator.input_shapes))]
    weights = [f"weight{index}" for index in range(len(operator.weight_shapes))]
    more = tuple(f"output{index}" for index in range(1, len(operator.output_types)))
    call = Call(operator, tuple(names), "output", tuple(weights), more)
    inputs = tuple(zip(names, operator.input_shapes, strict=True))
    return Network(operator.key, inputs, (call,), call.outputs)


def weights_image(program: Program, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of the program's weights region, packed for its kernels.

    Args:
        program: The program.
        arrays: Logical weights (`Operator.weight_shapes`) under the names of the network's calls.

    Raises:
        KeyError: a weight is missing.
        ValueError: a weight has the wrong shape.
    """
    image = bytearray(program.workload.weight_bytes)
    schedules = {kernel.operator: kernel.schedule for kernel in program.kernels}
    for call in program.network.calls:
        logical = [arrays[name] for name in call.weights]
        packed = pack_weights(call.operator, schedules[call.operator], logical)
        for name, array in zip(call.weights, packed, strict=True):
            start = program.workload.tensors[program.weights[name]].offset_bytes
            image[start : start + array.nbytes] = array.tobytes()
    return bytes(image)


def with_weights(workload: Workload, file: Path) -> Workload:
    """The same workload with the weights of a file, which lies on the device."""
    tensors = tuple(replace(t, fill=None) if t.region == "weights" else t for t in workload.tensors)
    return replace(workload, tensors=tensors, weights_file=file)


def _weight_scales(operator: Operator) -> tuple[float, ...]:
    """Half-widths of uniform weights that keep a signal's variance (He et al. 2015, eq. 10)."""
    if operator.body is not None:
        return (0.1,) * len(operator.body.constants)
    if not operator.weight_shapes:
        return ()
    if operator.kind == "separable_conv2d":
        return (*_weight_scales(operator.depthwise), *_weight_scales(operator.pointwise))
    kernel = operator.weight_shapes[0]
    fan_in = math.prod(kernel if operator.kind == "depthwise_conv2d" else kernel[:-1])
    if operator.kind == "depthwise_conv2d":
        fan_in //= operator.out_channels
    return (math.sqrt(6 / fan_in), 0.1)[: len(operator.weight_shapes)]


def _seed(name: str) -> int:
    return zlib.crc32(name.encode())


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
