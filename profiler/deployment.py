"""A folder with a network ready for a device: model.onnx, the program, weights, a report."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from devices.device import Failure, KernelCall, Runner, Tensor, Workload
from profiler.onnx_export import export_onnx, to_nchw, to_nhwc
from profiler.program import Program, weights_image

Array = NDArray[np.float32]

FORMAT_VERSION = 1
MODEL_FILE = "model.onnx"
PROGRAM_FILE = "program.json"
EXECUTABLE_FILE = "program"
WEIGHTS_FILE = "weights.bin"
REPORT_FILE = "report.json"
_CONTENTS = (EXECUTABLE_FILE, WEIGHTS_FILE, MODEL_FILE)
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
    """

    folder: Path
    network: str
    device_id: str
    program_digest: str
    operators: tuple[str, ...]
    workload: Workload
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]

    @property
    def executable(self) -> Path:
        """The static executable that holds the kernels and the runner."""
        return self.folder / EXECUTABLE_FILE

    def run(self, runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the program once on inputs by name, NCHW as in model.onnx.

        Raises:
            ValueError: an input is missing, unknown, or has the wrong shape.
            DeploymentError: a kernel failed.
        """
        return run_program(runner, self.workload, self.inputs, self.outputs, inputs)


def run_program(
    runner: Runner,
    workload: Workload,
    input_indices: Mapping[str, int],
    output_indices: Mapping[str, int],
    inputs: Mapping[str, Array],
) -> dict[str, Array]:
    """Run a workload once on inputs by name; see `Deployment.run`."""
    if set(inputs) != set(input_indices):
        raise ValueError(
            f"inputs must be {', '.join(input_indices)}, got {', '.join(inputs) or 'none'}"
        )
    placed = {}
    for name, array in inputs.items():
        n, h, w, c = workload.tensors[input_indices[name]].shape
        if array.shape != (n, c, h, w):
            raise ValueError(f"input {name} must have shape {(n, c, h, w)}, got {array.shape}")
        placed[input_indices[name]] = to_nhwc(np.asarray(array, np.float32))
    result = runner.run(workload, placed, tuple(output_indices.values()), _RUN_TIMEOUT_MS)
    if isinstance(result, Failure):
        raise DeploymentError(f"the program failed: {result.reason}: {result.detail}")
    return {name: to_nchw(result[index]) for name, index in output_indices.items()}


def write_deployment(
    folder: Path,
    program: Program,
    executable: Path,
    weights: Mapping[str, Array],
    device_id: str,
) -> Deployment:
    """Write everything but the report; an earlier deployment in the folder is replaced.

    Args:
        folder: Made if it is not there.
        program: The network bound to kernels.
        executable: Holds the program's kernels.
        weights: Logical weights under the names of the network's calls.
        device_id: The device that the kernels were chosen for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_FILE).unlink(missing_ok=True)  # it would speak of another program
    onnx.save(export_onnx(program.network, weights), str(folder / MODEL_FILE))
    (folder / WEIGHTS_FILE).write_bytes(weights_image(program, weights))
    new = folder / f"{EXECUTABLE_FILE}.new"
    shutil.copy(executable, new)
    new.replace(folder / EXECUTABLE_FILE)
    document = _describe(program, device_id) | {
        "sha256": {name: _digest(folder / name) for name in _CONTENTS}
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
        "tensors": [[t.region, t.offset_bytes, list(t.shape)] for t in workload.tensors],
        "calls": [asdict(call) for call in workload.calls],
        "inputs": dict(program.inputs),
        "outputs": dict(program.outputs),
    }


def read_deployment(folder: Path) -> Deployment:
    """Read a deployment from its folder.

    Raises:
        DeploymentError: files are missing, damaged, or of a newer format.
    """
    for name in (PROGRAM_FILE, *_CONTENTS):
        if not (folder / name).is_file():
            raise DeploymentError(f"{folder} is not a deployment: it has no {name}")
    try:
        document: dict[str, Any] = json.loads((folder / PROGRAM_FILE).read_text())
        if document["format"] > FORMAT_VERSION:
            raise DeploymentError(
                f"{folder} has format {document['format']}, this Latloop reads {FORMAT_VERSION}: "
                "install a newer Latloop or deploy again"
            )
        for name, digest in document["sha256"].items():
            if _digest(folder / name) != digest:
                raise DeploymentError(f"{folder / name} is not what was deployed: deploy again")
        workload = Workload(
            tensors=tuple(Tensor(r, offset, tuple(s)) for r, offset, s in document["tensors"]),
            calls=tuple(KernelCall(c["kernel"], tuple(c["tensors"])) for c in document["calls"]),
            arena_bytes=document["arena_bytes"],
            weight_bytes=document["weight_bytes"],
            weights_file=(folder / WEIGHTS_FILE).resolve(),
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
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DeploymentError(
            f"{folder / PROGRAM_FILE} is damaged ({error}): deploy again"
        ) from error


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


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """How far several ways to compute a network agree on the same inputs.

    Attributes:
        max_error: Largest difference from the reference over the reference's largest magnitude,
            over all inputs and all ways.
        min_difference: Smallest relative difference between the reference's outputs of two
            inputs: near 0 means that the check could not have failed.
        n_inputs: Inputs that were tried.
    """

    max_error: float
    min_difference: float
    n_inputs: int

    @property
    def passes(self) -> bool:
        """All ways agree to 1e-3, on inputs whose outputs differ by more than ten times that."""
        return self.max_error <= 1e-3 and self.min_difference > 1e-2


def compare_outputs(reference: Sequence[Array], others: Sequence[Sequence[Array]]) -> OutputCheck:
    """Compare outputs, one array an input, of several ways with those of a reference.

    Raises:
        ValueError: fewer than two inputs, or a way with another number of outputs.
    """
    counts = [len(reference), *map(len, others)]
    if not others or len(reference) < 2 or len(set(counts)) > 1:
        raise ValueError(f"two inputs or more are needed from every way, got {counts}")
    errors = [
        _relative(array, expected)
        for other in others
        for array, expected in zip(other, reference, strict=True)
    ]
    differences = [_relative(a, b) for i, a in enumerate(reference) for b in reference[i + 1 :]]
    return OutputCheck(max(errors), min(differences), len(reference))


def _relative(array: Array, expected: Array) -> float:
    with np.errstate(invalid="ignore"):  # infinities
        difference = float(np.max(np.abs(array - expected)))
    scale = float(np.max(np.abs(expected)))
    # A NaN must fail every comparison that follows.
    return difference / scale if scale > 0 and np.isfinite(difference) else float("inf")
