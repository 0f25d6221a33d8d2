"""Imported models built with each operator's default schedule and run on this machine, untimed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from numpy.typing import NDArray

import profiler
from devices.device import Failure, Runner
from devices.local import LocalDevice
from profiler.artifacts import ArtifactStore
from profiler.build import Kernel, build_kernels, object_files
from profiler.importers.imported import ImportedModel, keep_loops
from profiler.link import link_executable
from profiler.operator import Operator
from profiler.program import Program, assemble, weights_image, with_weights
from profiler.schedules.space import default_schedule
from profiler.target import target_of

Array = NDArray[Any]

_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Programs:
    """Models in one executable, ready to run."""

    models: Mapping[str, ImportedModel]
    kernels: Mapping[Operator, Kernel]
    runner: Runner
    folder: Path

    def program(self, name: str) -> Program:
        return assemble(self.models[name].network, self.kernels)

    def run(self, name: str, inputs: Sequence[Array]) -> list[Array]:
        """The model's outputs, in its own shapes; inputs in the order in which it names them."""
        program, model = self.program(name), self.models[name]
        weights = self.folder / f"{name}.bin"
        if not weights.exists():
            weights.write_bytes(weights_image(program, model.weights))
        workload = with_weights(program.workload, weights)
        placed = dict(zip(program.inputs.values(), inputs, strict=True))
        result = self.runner.run(workload, placed, tuple(program.outputs.values()), _TIMEOUT_MS)
        assert not isinstance(result, Failure), f"{name}: {result.reason}: {result.detail}"
        return [
            result[index].reshape(model.output_shapes[output])
            for output, index in program.outputs.items()
        ]


@contextmanager
def running(models: Mapping[str, ImportedModel], cache: Path) -> Iterator[Programs]:
    """Build all models' kernels into one executable and start it."""
    device = LocalDevice()
    target = target_of(device.fingerprint().board)
    artifacts = ArtifactStore(cache / "zoo" / _sources())
    for model in models.values():
        keep_loops(model, artifacts)
    operators = dict.fromkeys(op for model in models.values() for op in model.network.operators)
    requests = [(operator, default_schedule(operator, target)) for operator in operators]
    kernels: dict[Operator, Kernel] = {}
    for kernel in build_kernels(requests, target, artifacts):
        assert isinstance(kernel, Kernel), f"{kernel.operator.key}: {kernel.detail}"
        kernels[kernel.operator] = kernel
    files = object_files(list(kernels.values()), artifacts, cache / "zoo" / "objects")
    executable = link_executable(files, target, cache)
    with TemporaryDirectory() as folder, device.start(executable) as runner:
        yield Programs(models, kernels, runner, Path(folder))


def torch_outputs(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> list[Array]:
    """What torch computes."""
    with torch.no_grad():
        result = module(*inputs)
    return [each.numpy() for each in (result if isinstance(result, tuple) else (result,))]


def _sources() -> str:
    """Names all that decides a kernel's code: kernels of other sources must not be found."""
    folder = Path(profiler.__path__[0])
    sources = sorted([*folder.glob("*.py"), *folder.glob("schedules/*.py")])
    hashed = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    return hashed.hexdigest()[:16]
