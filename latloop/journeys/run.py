"""Run a network once on its device, on inputs that a person brings."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latloop.journeys.memory import plan_memory
from latloop.models import Subject, as_model
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from profiler.deployment import Deployment
from profiler.plan import ArenaPlan
from profiler.recovery import Held, hold_session

Array = NDArray[Any]


def run_model(
    workbench: Workbench,
    subject: Subject,
    inputs: Mapping[str, Array],
    seed: int,
    progress: StageProgress = quiet,
    plan: ArenaPlan | None = None,
) -> dict[str, Array]:
    """Run a model or a deployment with its weights, or a subnet with seeded random ones.

    Args:
        workbench: The device.
        subject: The network.
        inputs: Arrays by the model's own names; a subnet's are images, NCHW.
        seed: Draws the weights of a subnet.
        progress: Called as kernels are made.
        plan: Where tensors lie; None plans greedily. A deployment keeps its own.

    Raises:
        ValueError: an input is missing, unknown, or has the wrong shape or element type.
        TooLargeForBoardError: the network does not fit into the board's memory.
        DeploymentError: the program failed.
    """
    runtime = workbench.runtime
    if isinstance(subject.source, Deployment):
        prepared = runtime.open(subject.source)
    else:
        plan = plan or plan_memory(workbench, subject.network)
        runtime.tune(subject.network.operators, "measure", np.random.default_rng(), progress)
        model = replace(as_model(subject, seed), plan=plan)
        prepared = runtime.prepare([model], progress)

    def work(held: Held) -> dict[str, Array]:
        return prepared.bound[0].run(held.runner, inputs)

    executable = prepared.link().executable
    return hold_session(workbench.bench, executable, work, lambda text: progress(text, 0, 0))


def read_inputs(path: Path) -> dict[str, Array]:
    """Read arrays by name from an .npz file; nothing in it is unpickled.

    Raises:
        ValueError: not an .npz file of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"inputs must be an .npz file of arrays, got {path}: {error}") from error


def write_outputs(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name to an .npz file."""
    with path.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # numpy's stub has a flag there
