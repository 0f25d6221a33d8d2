"""ONNX Runtime: a network is one ONNX model, fused and scheduled as ONNX Runtime likes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from devices.ort import RUNTIME_NAME, installed_version, write_model_list
from profiler.bench import TUNING_PURPOSES, Bench, StageProgress, quiet, staged
from profiler.canary import CANARY, CANARY_PLAN
from profiler.deployment import (
    FORMAT_VERSION,
    MODEL_FILE,
    Deployment,
    check_runtime,
    clear_deployment,
    describe_deployment,
)
from profiler.link import reported_disk
from profiler.measure import OPERATOR_PLAN, Item
from profiler.measurement import OperatorLatency
from profiler.network_json import network_to_json
from profiler.operator import Operator
from profiler.program import alone
from profiler.runtime import Linked, Model, visit
from profiler.runtimes.ort_models import BoundModel, bind_model, model_files
from profiler.schedules.schedule import Schedule
from profiler.store import Purpose

NAME: Final = "onnxruntime"
#: Grows when the models that networks are exported to change.
EXPORT_VERSIONS: Final = (("export", "1"),)
#: ONNX Runtime chooses how it runs an operator.
SCHEDULE: Final = Schedule(NAME)
#: Visits to each operator.
N_ROUNDS: Final = 3
#: One addition: what it takes is the price of calling a model, which a network pays once.
CALL: Final = Operator("add", (1, 1, 1, 1), 1)
#: Of an operator timed alone at least this share is its own: a floor against noise.
_LEAST_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class PreparedModels:
    """See `profiler.runtime.Prepared`."""

    runtime: OrtRuntime
    bound: tuple[BoundModel, ...]

    def link(self) -> Linked:
        """See `profiler.runtime.Prepared`."""
        return self.runtime.link(model_files(self.bound, self.runtime.bench.artifacts))


@dataclass(frozen=True, slots=True)
class OpenedDeployment:
    """A deployment's model, beside the canary's."""

    runtime: OrtRuntime
    deployment: Deployment

    @property
    def bound(self) -> tuple[Deployment, ...]:
        """See `profiler.runtime.Prepared`."""
        return (self.deployment,)

    def link(self) -> Linked:
        """See `profiler.runtime.Prepared`."""
        (call,) = self.deployment.workload.calls
        return self.runtime.link({call.kernel: self.deployment.folder / MODEL_FILE})


@dataclass(frozen=True, slots=True)
class OrtRuntime:
    """See `profiler.runtime.Runtime`."""

    bench: Bench

    def versions(self) -> tuple[tuple[str, str], ...]:
        """See `profiler.runtime.Runtime`."""
        return (*EXPORT_VERSIONS, (RUNTIME_NAME, installed_version()))

    def tune(
        self,
        operators: Sequence[Operator],
        purpose: Purpose,
        rng: np.random.Generator,
        progress: StageProgress = quiet,
    ) -> None:
        """Time the one-operator models of operators that were not timed yet.

        Generic operators are left out: they have no form in ONNX, so only the whole networks that
        hold them are timed.
        """
        bench = self.bench
        known = bench.store.best_schedules(bench.device_id, TUNING_PURPOSES)
        started = {key.subject for key in bench.store.rounds_done(bench.device_id, purpose)}
        bound = [
            bind_model(Model(alone(op)), bench.artifacts)
            for op in dict.fromkeys([CALL, *operators])
            if op.body is None and (op not in known or op.key in started)
        ]
        visit(
            bench,
            PreparedModels(self, tuple(bound)).link,
            [_operator_item(model) for model in bound],
            purpose,
            N_ROUNDS,
            rng,
            staged(progress, "time operators"),
        )

    def choose_schedule(self) -> Callable[[Operator], Schedule]:
        """See `profiler.runtime.Runtime`."""
        return lambda _: SCHEDULE

    def operator_latencies(self, purposes: Collection[Purpose]) -> tuple[OperatorLatency, ...]:
        """See `profiler.runtime.Runtime`; the price of calling a model is taken off."""
        rows = self.bench.store.operator_latencies(self.bench.device_id, purposes)
        call_us = next((row.alone_us for row in rows if row.operator == CALL), 0.0)
        return tuple(_without_call(row, call_us) for row in rows if row.operator != CALL)

    def prepare(self, models: Sequence[Model], progress: StageProgress = quiet) -> PreparedModels:
        """See `profiler.runtime.Runtime`."""
        bound = []
        for index, model in enumerate(models):
            progress("export", index, len(models))
            bound.append(bind_model(model, self.bench.artifacts))
        progress("export", len(models), len(models))
        return PreparedModels(self, tuple(bound))

    def deploy(self, model: Model, folder: Path, progress: StageProgress = quiet) -> Deployment:
        """See `profiler.runtime.Runtime`; the folder holds model.onnx and its description."""
        if model.weights is None and model.onnx_file is None:
            raise ValueError(f"{model.network.name} has no weights to deploy")
        (bound,) = self.prepare([model], progress).bound
        source = model_files([bound], self.bench.artifacts)[bound.name]
        clear_deployment(folder)
        new = folder / f"{MODEL_FILE}.new"
        shutil.copyfile(source, new)
        new.replace(folder / MODEL_FILE)
        return describe_deployment(folder, _describe(bound, self.bench.device_id), NAME)

    def open(self, deployment: Deployment) -> OpenedDeployment:
        """See `profiler.runtime.Runtime`."""
        check_runtime(deployment, NAME)
        return OpenedDeployment(self, deployment)

    def link(self, models: dict[str, Path]) -> Linked:
        """List models and the canary's for the runner."""
        canary = bind_model(Model(CANARY), self.bench.artifacts)
        everything = models | model_files([canary], self.bench.artifacts)
        name = hashlib.sha256(repr(sorted(everything.items())).encode()).hexdigest()[:24]
        path = self.bench.link_folder / "models" / f"{name}.json"
        with reported_disk(self.bench.link_folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_model_list(path, everything)
        return Linked(path, canary.item(CANARY_PLAN))


def _operator_item(model: BoundModel) -> Item:
    """An operator's model, timed alone and hot."""
    (operator,) = model.network.operators
    return Item(
        subject_kind="operator",
        subject=operator.key,
        kernel=model.name,
        schedule=SCHEDULE.text,
        operators=(),
        workload=model.workload,
        plan=OPERATOR_PLAN,
    )


def _without_call(row: OperatorLatency, call_us: float) -> OperatorLatency:
    own_us = max(row.alone_us - call_us, _LEAST_SHARE * row.alone_us)
    spread = row.relative_spread * row.alone_us / own_us
    return replace(row, alone_us=own_us, relative_spread=spread)


def _describe(model: BoundModel, device_id: str) -> dict[str, object]:
    (call,) = model.workload.calls
    return {
        "format": FORMAT_VERSION,
        "network": model.network.name,
        "device_id": device_id,
        "program_digest": model.name,
        "operators": [operator.key for operator in model.network.operators],
        "arena_bytes": model.workload.arena_bytes,
        "weight_bytes": model.network.weight_bytes,
        "tensors": [
            [t.region, t.offset_bytes, list(t.shape), t.dtype] for t in model.workload.tensors
        ],
        "calls": [{"kernel": call.kernel, "tensors": call.tensors}],
        "inputs": dict(model.inputs),
        "outputs": dict(model.outputs),
        "shapes": {name: list(shape) for name, shape in model.shapes.items()},
        "graph": network_to_json(model.network),
    }
