"""Run a network once on its device, on inputs that a person brings."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latloop.journeys.measure import build_program
from latloop.models import Subject
from latloop.workbench import Workbench
from profiler.bench import StageProgress, link, quiet
from profiler.deployment import run_program
from profiler.program import weights_image, with_weights

Array = NDArray[np.float32]


def run_model(
    workbench: Workbench,
    subject: Subject,
    inputs: Mapping[str, Array],
    seed: int,
    progress: StageProgress = quiet,
) -> dict[str, Array]:
    """Run a deployment with its weights, or a subnet with seeded random ones.

    Args:
        workbench: The device.
        subject: The network.
        inputs: float32 arrays by input name, NCHW.
        seed: Draws the weights of a subnet.
        progress: Called as kernels are made.

    Raises:
        ValueError: an input is missing, unknown, or has the wrong shape.
        DeploymentError: the program failed.
    """
    if subject.deployment is not None:
        with workbench.device.start(subject.deployment.executable) as runner:
            return subject.deployment.run(runner, inputs)
    program = build_program(workbench.bench, subject.network, "measure", progress)
    module = subject.space.module(subject.genome, np.random.default_rng(seed))
    image = weights_image(program, subject.space.weights(module))
    executable = link(workbench.bench, program.kernels)
    with tempfile.TemporaryDirectory() as folder, workbench.device.start(executable) as runner:
        weights = Path(folder) / "weights.bin"
        weights.write_bytes(image)
        workload = with_weights(program.workload, weights)
        return run_program(runner, workload, program.inputs, program.outputs, inputs)


def read_inputs(path: Path) -> dict[str, Array]:
    """Read float32 arrays by name from an .npz file; nothing in it is unpickled.

    Raises:
        ValueError: not an .npz file of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name], np.float32) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"inputs must be an .npz file of arrays, got {path}: {error}") from error


def write_outputs(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name to an .npz file."""
    with path.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # numpy's stub has a flag there
