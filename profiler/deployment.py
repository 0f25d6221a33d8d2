"""A folder with a network ready for a device: model.onnx, the program, weights, a report."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import onnx

from devices.device import Failure, KernelCall, Region, Runner, Tensor, TimingPlan, Workload
from profiler.foreign import ANSWERS_FILE, ForeignModel
from profiler.measure import NETWORK_PLAN, Item
from profiler.model_io import Array, Shape, place_inputs, read_outputs
from profiler.network import Network
from profiler.network_json import network_from_json, network_to_json
from profiler.onnx_export import export_onnx
from profiler.program import Program, weights_image

FORMAT_VERSION = 1
MODEL_FILE = "model.onnx"
PROGRAM_FILE = "program.json"
EXECUTABLE_FILE = "program"
WEIGHTS_FILE = "weights.bin"
REPORT_FILE = "report.json"
RuntimeName = Literal["latloop", "onnxruntime"]
#: What each runtime deploys beside the description and the model or its answers.
CONTENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "latloop": (EXECUTABLE_FILE, WEIGHTS_FILE),
    "onnxruntime": (),
}
_RUN_TIMEOUT_MS = 60_000


class DeploymentError(RuntimeError):
    """A folder is not a deployment, or it is damaged: deploy again."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployed program, read from its folder.

    Attributes:
        folder: Where it lies.
        network: The network's name.
        device_id: The device that it was built for.
        program_digest: Names the program in stores.
        operators: Keys of its operators in order of execution.
        workload: What the runner is asked to do, weights mapped from the folder.
        inputs, outputs: Index of each tensor, by name.
        shapes: The model's own shapes of inputs and outputs, by name; None for images that are
            NCHW in model.onnx and NHWC in the program.
        runtime: What runs it.
        graph: The network itself; None in deployments of earlier versions.
    """

    folder: Path
    network: str
    device_id: str
    program_digest: str
    operators: tuple[str, ...]
    workload: Workload
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    shapes: Mapping[str, Shape] | None = None
    runtime: RuntimeName = "latloop"
    graph: Network | None = None

    @property
    def executable(self) -> Path:
        """The static executable that holds the kernels and the runner."""
        return self.folder / EXECUTABLE_FILE

    def item(self, plan: TimingPlan = NETWORK_PLAN) -> Item:
        """The whole program, to be timed; see `profiler.runtime.Bound`."""
        return Item(
            subject_kind="network",
            subject=self.network,
            kernel=self.program_digest,
            schedule="",
            operators=self.operators,
            workload=self.workload,
            plan=plan if self.runtime == "latloop" else replace(plan, with_timestamps=False),
        )

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """Shape of each input as model.onnx has it."""
        if self.shapes is not None:
            return {name: self.shapes[name] for name in self.inputs}
        shapes = {name: self.workload.tensors[i].shape for name, i in self.inputs.items()}
        return {name: (n, c, h, w) for name, (n, h, w, c) in shapes.items()}

    def run(self, runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the program once on inputs by name, NCHW as in model.onnx.

        Raises:
            ValueError: an input is missing, unknown, or has the wrong shape.
            DeploymentError: a kernel failed.
        """
        return run_program(runner, self.workload, self.inputs, self.outputs, inputs, self.shapes)


def run_program(
    runner: Runner,
    workload: Workload,
    input_indices: Mapping[str, int],
    output_indices: Mapping[str, int],
    inputs: Mapping[str, Array],
    shapes: Mapping[str, Shape] | None = None,
) -> dict[str, Array]:
    """Run a workload once on inputs by name; see `Deployment.run`.

    Args:
        runner: Holds the workload's kernels.
        workload: What is run.
        input_indices: The index of each input's tensor, by name.
        output_indices: The same of each output.
        inputs: As the model has them.
        shapes: The model's own shapes of inputs and outputs, by name; None for images that are
            NCHW in the model and NHWC in the program.
    """
    placed = place_inputs(inputs, input_indices, workload.tensors, shapes)
    result = runner.run(workload, placed, tuple(output_indices.values()), _RUN_TIMEOUT_MS)
    if isinstance(result, Failure):
        raise DeploymentError(f"the program failed: {result.reason}: {result.detail}")
    return read_outputs(result, output_indices, shapes)


def check_runtime(deployment: Deployment, runtime: RuntimeName) -> None:
    """Refuse a deployment that another runtime was meant for.

    Raises:
        DeploymentError: it was made for another runtime.
    """
    if deployment.runtime != runtime:
        raise DeploymentError(
            f"{deployment.folder} was deployed for runtime {deployment.runtime}, the device runs "
            f"{runtime}: name a device of that runtime, or deploy again"
        )


def write_deployment(
    folder: Path,
    program: Program,
    executable: Path,
    weights: Mapping[str, Array],
    device_id: str,
    foreign: ForeignModel | None = None,
) -> Deployment:
    """Write everything but the report; an earlier deployment in the folder is replaced.

    Args:
        folder: Made if it is not there.
        program: The network bound to kernels.
        executable: Holds the program's kernels.
        weights: Logical weights under the names of the network's calls.
        device_id: The device that the kernels were chosen for.
        foreign: The model that the network was imported from; None for one of our own.
    """
    clear_deployment(folder)
    if foreign is None:
        onnx.save(export_onnx(program.network, weights), str(folder / MODEL_FILE))
    else:
        foreign.copy_to(folder, MODEL_FILE)
    (folder / WEIGHTS_FILE).write_bytes(weights_image(program, weights))
    new = folder / f"{EXECUTABLE_FILE}.new"
    shutil.copy(executable, new)
    new.replace(folder / EXECUTABLE_FILE)
    description = _describe(program, device_id) | {
        "shapes": None if foreign is None else {n: list(s) for n, s in foreign.shapes.items()}
    }
    return describe_deployment(folder, description, "latloop")


def clear_deployment(folder: Path) -> None:
    """Make a folder, without what would speak of another program than the one to be written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (REPORT_FILE, MODEL_FILE, ANSWERS_FILE):
        (folder / name).unlink(missing_ok=True)


def describe_deployment(
    folder: Path, description: Mapping[str, object], runtime: RuntimeName
) -> Deployment:
    """Write the description of a folder whose other files are in place, and read it all back."""
    model = ANSWERS_FILE if (folder / ANSWERS_FILE).is_file() else MODEL_FILE
    document = dict(description) | {
        "runtime": runtime,
        "sha256": {name: _digest(folder / name) for name in (*CONTENTS[runtime], model)},
    }
    # Last: a folder whose writing was cut short has no description that fits its files.
    (folder / PROGRAM_FILE).write_text(json.dumps(document, indent=1) + "\n")
    return read_deployment(folder)


def _describe(program: Program, device_id: str) -> dict[str, object]:
    workload = program.workload
    return {
        "format": FORMAT_VERSION,
        "network": program.network.name,
        "device_id": device_id,
        "program_digest": program.digest,
        "operators": [operator.key for operator in program.network.operators],
        "schedules": {k.operator.key: k.schedule.text for k in program.kernels},
        "arena_bytes": workload.arena_bytes,
        "weight_bytes": workload.weight_bytes,
        "tensors": [[t.region, t.offset_bytes, list(t.shape), t.dtype] for t in workload.tensors],
        "calls": [asdict(call) for call in workload.calls],
        "inputs": dict(program.inputs),
        "outputs": dict(program.outputs),
        "graph": network_to_json(program.network),
    }


def read_deployment(folder: Path) -> Deployment:
    """Read a deployment from its folder.

    Raises:
        DeploymentError: files are missing, damaged, or of a newer format.
    """
    _check_files(folder, (PROGRAM_FILE,))
    try:
        document: dict[str, Any] = json.loads((folder / PROGRAM_FILE).read_text())
        if document["format"] > FORMAT_VERSION:
            raise DeploymentError(
                f"{folder} has format {document['format']}, this Latloop reads {FORMAT_VERSION}: "
                "install a newer Latloop or deploy again"
            )
        runtime, shapes = document.get("runtime", "latloop"), document.get("shapes")
        graph = document.get("graph")
        _check_files(folder, (*CONTENTS[runtime], *document["sha256"]))
        for name, digest in document["sha256"].items():
            if _digest(folder / name) != digest:
                raise DeploymentError(f"{folder / name} is not what was deployed: deploy again")
        workload = Workload(
            tensors=tuple(_read_tensor(*row) for row in document["tensors"]),
            calls=tuple(KernelCall(c["kernel"], tuple(c["tensors"])) for c in document["calls"]),
            arena_bytes=document["arena_bytes"],
            weight_bytes=document["weight_bytes"],
            weights_file=(folder / WEIGHTS_FILE).resolve() if runtime == "latloop" else None,
        )
        return Deployment(
            folder=folder,
            network=document["network"],
            device_id=document["device_id"],
            program_digest=document["program_digest"],
            operators=tuple(document["operators"]),
            workload=workload,
            inputs=document["inputs"],
            outputs=document["outputs"],
            shapes=None if shapes is None else {n: tuple(s) for n, s in shapes.items()},
            runtime=runtime,
            graph=None if graph is None else network_from_json(graph),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DeploymentError(
            f"{folder / PROGRAM_FILE} is damaged ({error}): deploy again"
        ) from error


def _check_files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise DeploymentError(f"{folder} is not a deployment: it has no {name}")


def _read_tensor(
    region: Region, offset_bytes: int, shape: Sequence[int], dtype: str = "float32"
) -> Tensor:
    return Tensor(region, offset_bytes, tuple(shape), None, dtype)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_report(folder: Path) -> dict[str, Any]:
    """The deployment's report.json, or an empty dict where none was written yet."""
    path = folder / REPORT_FILE
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def write_report(folder: Path, report: Mapping[str, object]) -> None:
    """Write report.json whole or not at all."""
    new = folder / f"{REPORT_FILE}.new"
    new.write_text(json.dumps(report, indent=1) + "\n")
    new.replace(folder / REPORT_FILE)
