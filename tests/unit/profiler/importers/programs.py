"""Imported models run as programs on this machine."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import profiler
from devices.device import Failure
from devices.local import LocalDevice
from devices.session import RunnerSession
from profiler.artifacts import ArtifactStore
from profiler.build import BuildFailure, Kernel, build_kernels, object_files
from profiler.importers.imported import ImportedModel, keep_loops
from profiler.link import link_executable
from profiler.operator import Operator
from profiler.program import assemble, weights_image, with_weights
from profiler.schedules.space import default_schedule
from profiler.target import target_of

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Programs:
    """One executable with the kernels of many models, each with its default schedule."""

    kernels: dict[Operator, Kernel]
    runner: RunnerSession

    def run(self, model: ImportedModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs by name."""
        program = assemble(model.network, self.kernels)
        tensors = program.workload.tensors
        placed = {
            place: np.ascontiguousarray(inputs[name]).reshape(tensors[place].shape)
            for name, place in program.inputs.items()
        }
        with tempfile.NamedTemporaryFile() as file:
            file.write(weights_image(program, model.weights))
            file.flush()
            workload = with_weights(program.workload, Path(file.name))
            made = self.runner.run(workload, placed, tuple(program.outputs.values()), 60_000)
        assert not isinstance(made, Failure), made
        return {
            name: made[place].reshape(model.output_shapes[name])
            for name, place in program.outputs.items()
        }


@contextmanager
def programs(models: list[ImportedModel], cache: Path) -> Iterator[Programs]:
    """Build all kernels of all models and start the executable that holds them."""
    target = target_of(LocalDevice().fingerprint().board)
    artifacts = ArtifactStore(cache / "imported" / _sources())
    for model in models:
        keep_loops(model, artifacts)
    operators = dict.fromkeys(op for model in models for op in model.network.operators)
    requests = [(operator, default_schedule(operator, target)) for operator in operators]
    built = build_kernels(requests, target, artifacts)
    failed = [each for each in built if isinstance(each, BuildFailure)]
    assert not failed, [f"{each.operator.key}: {each.detail}" for each in failed]
    kernels = {each.operator: each for each in built if isinstance(each, Kernel)}
    files = object_files(list(kernels.values()), artifacts, cache / "imported" / "files")
    with LocalDevice().start(link_executable(files, target, cache)) as runner:
        yield Programs(kernels, runner)


def _sources() -> str:
    """Names all that decides a kernel's code: kernels of other sources must not be found."""
    folder = Path(profiler.__path__[0])
    sources = sorted([*folder.glob("*.py"), *folder.glob("schedules/*.py")])
    hashed = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    return hashed.hexdigest()[:16]
