"""Latloop's own kernels: compiled one by one, the fastest schedule found on the device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from devices.device import Runner, TimingPlan, Workload
from profiler.bench import TUNING_PURPOSES, Bench, NoKernelError, StageProgress, quiet
from profiler.build import (
    BuildFailure,
    Kernel,
    build_kernels,
    compiler_versions,
    object_files,
)
from profiler.canary import CANARY, CANARY_PLAN
from profiler.deployment import Deployment, check_runtime, run_program, write_deployment
from profiler.link import link_for, reported_disk
from profiler.measure import NETWORK_PLAN, Item
from profiler.measurement import OperatorLatency
from profiler.operator import Operator
from profiler.program import Program, assemble, weights_image, with_weights
from profiler.runtime import Array, Linked, Model
from profiler.runtimes.tuning import NAME, Tuning, learn_ranking
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import default_schedule
from profiler.store import Purpose
from profiler.tunings import LISTED, Ranking, TuningPolicy


@dataclass(frozen=True, slots=True)
class BoundProgram:
    """See `profiler.runtime.Bound`.

    Attributes:
        program: Kernel calls over a planned arena.
        workload: The program's, with the weights of a file where there are any.
        shapes: See `Model`.
    """

    program: Program
    workload: Workload
    shapes: Mapping[str, tuple[int, ...]] | None

    def item(self, plan: TimingPlan = NETWORK_PLAN) -> Item:
        """See `profiler.runtime.Bound`; the usual plan takes timestamps between calls, too."""
        network = self.program.network
        return Item(
            subject_kind="network",
            subject=network.name,
            kernel=self.program.digest,
            schedule="",
            operators=tuple(operator.key for operator in network.operators),
            workload=self.workload,
            plan=plan,
        )

    def run(self, runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `profiler.runtime.Bound`."""
        program = self.program
        return run_program(
            runner, self.workload, program.inputs, program.outputs, inputs, self.shapes
        )


@dataclass(frozen=True, slots=True)
class PreparedPrograms:
    """See `profiler.runtime.Prepared`."""

    runtime: OwnRuntime
    bound: tuple[BoundProgram, ...]

    def link(self) -> Linked:
        """See `profiler.runtime.Prepared`."""
        programs = [bound.program for bound in self.bound]
        return self.runtime.link([kernel for program in programs for kernel in program.kernels])


@dataclass(frozen=True, slots=True)
class OpenedDeployment:
    """A deployment's own executable, which holds the canary's kernels."""

    runtime: OwnRuntime
    deployment: Deployment

    @property
    def bound(self) -> tuple[Deployment, ...]:
        """See `profiler.runtime.Prepared`."""
        return (self.deployment,)

    def link(self) -> Linked:
        """See `profiler.runtime.Prepared`."""
        return Linked(self.deployment.executable, self.runtime.canary().item(CANARY_PLAN))


@dataclass(frozen=True, slots=True)
class OwnRuntime:
    """See `profiler.runtime.Runtime`."""

    bench: Bench
    policy: TuningPolicy = LISTED

    def versions(self) -> tuple[tuple[str, str], ...]:
        """See `profiler.runtime.Runtime`."""
        return compiler_versions()

    def tune(
        self,
        operators: Sequence[Operator],
        purpose: Purpose,
        rng: np.random.Generator,
        progress: StageProgress = quiet,
    ) -> None:
        """Time a short list of candidates of operators that have none timed yet, or all of them."""
        Tuning(self.bench, self.policy, self.link, purpose, rng, progress).tune(operators)

    def choose_schedule(self) -> Callable[[Operator], Schedule]:
        """See `profiler.runtime.Runtime`."""
        return self._choose()

    def operator_latencies(self, purposes: Collection[Purpose]) -> tuple[OperatorLatency, ...]:
        """See `profiler.runtime.Runtime`; timings between timestamps add up as they are."""
        return self.bench.store.operator_latencies(self.bench.device_id, purposes)

    def prepare(self, models: Sequence[Model], progress: StageProgress = quiet) -> PreparedPrograms:
        """Bind networks to the best kernels known; see `profiler.runtime.Runtime`."""
        operators = dict.fromkeys(op for model in models for op in model.network.operators)
        kernels = self._best_kernels(list(operators), progress)
        return PreparedPrograms(self, tuple(self._bind(model, kernels) for model in models))

    def deploy(self, model: Model, folder: Path, progress: StageProgress = quiet) -> Deployment:
        """See `profiler.runtime.Runtime`."""
        if model.weights is None:
            raise ValueError(f"{model.network.name} has no weights to deploy")
        kernels = self._best_kernels(model.network.operators, progress)
        program = assemble(model.network, kernels, model.plan)
        linked = self.link(program.kernels)
        return write_deployment(
            folder, program, linked.executable, model.weights, self.bench.device_id, model.foreign
        )

    def open(self, deployment: Deployment) -> OpenedDeployment:
        """See `profiler.runtime.Runtime`."""
        check_runtime(deployment, NAME)
        return OpenedDeployment(self, deployment)

    def link(self, kernels: Sequence[Kernel]) -> Linked:
        """Link kernels and the canary's into one executable."""
        bench = self.bench
        canary = self.canary()
        everything = [*kernels, *canary.program.kernels]
        with reported_disk(bench.link_folder):
            files = object_files(everything, bench.artifacts, bench.link_folder / "objects")
            executable = link_for(bench.device, files, bench.target, bench.link_folder)
        return Linked(executable, canary.item(CANARY_PLAN))

    def canary(self) -> BoundProgram:
        """The canary for the bench's target: always of the first candidate schedules."""
        target = self.bench.target
        requests = [(op, default_schedule(op, target)) for op in CANARY.operators]
        program = assemble(CANARY, _sound(self._build(requests), "the canary"))
        return BoundProgram(program, program.workload, None)

    def _bind(self, model: Model, kernels: Mapping[Operator, Kernel]) -> BoundProgram:
        program = assemble(model.network, kernels, model.plan)
        if model.weights is None:
            return BoundProgram(program, program.workload, model.shapes)
        file = self._keep_weights(weights_image(program, model.weights))
        return BoundProgram(program, with_weights(program.workload, file), model.shapes)

    def _keep_weights(self, image: bytes) -> Path:
        """Put a weights region where the device maps it from."""
        folder = self.bench.link_folder / "weights"
        path = folder / hashlib.sha256(image).hexdigest()[:24]
        with reported_disk(self.bench.link_folder):
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                new = path.with_suffix(f".{os.getpid()}.new")
                new.write_bytes(image)
                new.replace(path)
        return path.resolve()

    def _choose(
        self, operators: Collection[Operator] | None = None
    ) -> Callable[[Operator], Schedule]:
        """`choose_schedule` for some operators, or for all that there are."""
        bench = self.bench
        measured = bench.store.best_schedules(bench.device_id, TUNING_PURPOSES, operators)

        @cache
        def ranking() -> Ranking:  # learned when the first operator is asked for that nobody timed
            return learn_ranking(self.bench, self.policy)

        return lambda op: measured.get(op) or ranking().order(op, self.bench.target)[0]

    def _best_kernels(
        self, operators: Sequence[Operator], progress: StageProgress
    ) -> dict[Operator, Kernel]:
        """Build the kernel that would be deployed for each operator."""
        asked = dict.fromkeys(operators)
        choose = self._choose(asked)
        requests = [(operator, choose(operator)) for operator in asked]
        return _sound(self._build(requests, progress), "")

    def _build(
        self, requests: Sequence[tuple[Operator, Schedule]], progress: StageProgress = quiet
    ) -> tuple[Kernel | BuildFailure, ...]:
        return build_kernels(
            requests,
            self.bench.target,
            self.bench.artifacts,
            lambda done, n: progress("compile", done, n),
            self.bench.compilers,
        )


def _sound(built: Sequence[Kernel | BuildFailure], what: str) -> dict[Operator, Kernel]:
    kernels = {}
    for kernel in built:
        if isinstance(kernel, BuildFailure):
            name = what or kernel.operator.key
            raise NoKernelError(f"{name} does not compile: {kernel.detail}")
        kernels[kernel.operator] = kernel
    return kernels
