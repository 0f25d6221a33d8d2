"""ONNX models as ONNX Runtime is asked to run them: kept by content, their tensors named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import onnx
from onnx import helper, shape_inference

from devices.device import Fill, KernelCall, Runner, Tensor, TimingPlan, Workload
from profiler.artifacts import ArtifactStore
from profiler.bench import NoKernelError
from profiler.deployment import run_program
from profiler.measure import NETWORK_PLAN, Item
from profiler.network import Network
from profiler.onnx_export import export_onnx
from profiler.runtime import Array, Model

_PLACE_BYTES: Final = 64
#: Of the numbers that inputs hold while a model is timed.
_FILL: Final = Fill(seed=1, scale=1.0)


class NoOnnxFormError(ValueError):
    """A network that only loops describe cannot be run by ONNX Runtime: give its ONNX file."""


@dataclass(frozen=True, slots=True)
class BoundModel:
    """See `profiler.runtime.Bound`.

    Attributes:
        network: What the model computes, as calls of operators.
        digest: SHA-256 of the model, under which the artefact store keeps it.
        workload: One call of the model on its inputs and outputs.
        inputs, outputs: Index of each tensor, by name.
    """

    network: Network
    digest: str
    workload: Workload
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]

    @property
    def name(self) -> str:
        """What the runner calls the model."""
        return self.workload.calls[0].kernel

    def item(self, plan: TimingPlan = NETWORK_PLAN) -> Item:
        """See `profiler.runtime.Bound`; a model is timed as a whole."""
        return Item(
            subject_kind="network",
            subject=self.network.name,
            kernel=self.name,
            schedule="",
            operators=tuple(operator.key for operator in self.network.operators),
            workload=self.workload,
            plan=replace(plan, with_timestamps=False),
        )

    def run(self, runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `profiler.runtime.Bound`."""
        return run_program(runner, self.workload, self.inputs, self.outputs, inputs, self.shapes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input and output, by name."""
        places = {**self.inputs, **self.outputs}
        return {name: self.workload.tensors[index].shape for name, index in places.items()}


def bind_model(model: Model, artifacts: ArtifactStore) -> BoundModel:
    """Keep a model's ONNX: the file that it was imported from, or else its network's export.

    Raises:
        NoOnnxFormError: it was imported, but not from an ONNX file.
        ArtifactError: the artefact folder cannot be written to.
    """
    if model.onnx_file is not None:
        proto = onnx.load(str(model.onnx_file))
        digest = artifacts.put_file(model.onnx_file)
    else:
        proto = export_model(model)
        digest = artifacts.put_bytes(proto.SerializeToString(deterministic=True))
    return bind_proto(model.network, proto, digest)


def export_model(model: Model) -> onnx.ModelProto:
    """A network as ONNX, with its weights, or with placeholders that cost no space.

    Raises:
        NoOnnxFormError: it was imported, but not from an ONNX file.
    """
    is_generic = any(op.body is not None for op in model.network.operators)
    if model.shapes is not None or is_generic:
        raise NoOnnxFormError(
            f"{model.network.name} was not imported from an ONNX file, which ONNX Runtime needs: "
            "export it, for example with torch.onnx.export, and give the file"
        )
    return export_onnx(model.network, model.weights)


def bind_proto(network: Network, proto: onnx.ModelProto, digest: str) -> BoundModel:
    """Place the inputs and outputs of a model whose shapes are fixed."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    sources = [value for value in proto.graph.input if value.name not in stored]
    results = list(_with_shapes(proto).graph.output)
    tensors: list[Tensor] = []
    offset = 0
    for value in (*sources, *results):
        tensor = _place(value, offset, is_input=len(tensors) < len(sources))
        tensors.append(tensor)
        offset += -(-tensor.n_bytes // _PLACE_BYTES) * _PLACE_BYTES
    indices = range(len(tensors))
    call = KernelCall(f"m_{digest[:16]}", tuple(indices))
    return BoundModel(
        network=network,
        digest=digest,
        workload=Workload(tuple(tensors), (call,), offset, 0),
        inputs={value.name: i for i, value in zip(indices, sources, strict=False)},
        outputs={v.name: i for i, v in zip(indices[len(sources) :], results, strict=True)},
    )


def _with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its outputs, which files may leave out."""
    if all(_shape(value) is not None for value in proto.graph.output):
        return proto
    return shape_inference.infer_shapes(proto, data_prop=True)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape") or any(not d.HasField("dim_value") for d in kind.shape.dim):
        return None
    return tuple(d.dim_value for d in kind.shape.dim)


def _place(value: onnx.ValueInfoProto, offset: int, *, is_input: bool) -> Tensor:
    shape = _shape(value)
    if shape is None:
        raise ValueError(
            f"the model leaves the shape of {value.name} open, so that nothing can be put in its "
            "place; export it with fixed shapes"
        )
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    fill = _FILL if is_input and dtype == "float32" else None
    return Tensor("arena", offset, shape, fill, dtype)


def model_files(models: Sequence[BoundModel], artifacts: ArtifactStore) -> dict[str, Path]:
    """The file of each model, by the name that the runner calls it.

    Raises:
        NoKernelError: a file vanished from the artefact store or was damaged.
    """
    files = {}
    for model in models:
        path = artifacts.path(model.digest)
        if path is None:
            raise NoKernelError(
                f"the ONNX model of {model.network.name} is missing or damaged in "
                f"{artifacts.folder}; run the command again to make it anew"
            )
        files[model.name] = path
    return files
