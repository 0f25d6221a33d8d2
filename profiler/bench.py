"""A device with everything needed to measure on it: builds, links, visits, best kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from devices.device import Device, Failure, TimingPlan
from profiler.artifacts import ArtifactStore
from profiler.build import BuildFailure, Kernel, build_kernels, object_files
from profiler.canary import CANARY, CANARY_PLAN
from profiler.link import link_executable, reported_disk
from profiler.measure import NETWORK_PLAN, OPERATOR_PLAN, Item, Sweep, measure
from profiler.network import Network
from profiler.operator import Operator
from profiler.program import Program, alone, assemble
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import candidates, default_schedule
from profiler.store import Purpose, RoundKey, Store, Visit
from profiler.target import Target

#: Called with what is being done, how much of it is done, and how much there is.
StageProgress = Callable[[str, int, int], None]

KERNELS_PER_EXECUTABLE = 256
#: Every visit that may decide which kernel of an operator is the fastest.
TUNING_PURPOSES: frozenset[Purpose] = frozenset({"tune", "evaluate", "measure"})


def quiet(stage: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One device, its target, and where results and builds are kept.

    Attributes:
        device: Where code runs.
        device_id: Its fingerprint, under which the store keeps what it did.
        target: What code is generated for.
        store, artifacts: Results and builds.
        link_folder: Object files and executables as the linker wants them; may be deleted.
    """

    device: Device
    device_id: str
    target: Target
    store: Store
    artifacts: ArtifactStore
    link_folder: Path


class NoKernelError(RuntimeError):
    """No schedule of an operator compiled and ran: the operator cannot be used on this device."""


def tune(
    bench: Bench,
    operators: Sequence[Operator],
    purpose: Purpose,
    rng: np.random.Generator,
    progress: StageProgress = quiet,
) -> None:
    """Time every candidate schedule of operators that have no measured kernel yet.

    Resumes where an earlier call stopped. Failures are rows in the store.
    """
    known = best_schedules(bench)
    done = bench.store.rounds_done(bench.device_id, purpose)
    started = {key.subject for key in done}
    new = [op for op in dict.fromkeys(operators) if op not in known or op.key in started]
    requests = [
        (op, schedule)
        for op in new
        for schedule in candidates(op, bench.target)
        if _unbuilt_key(op, schedule) not in done
    ]
    built = build_kernels(
        requests, bench.target, bench.artifacts, lambda done, n: progress("compile", done, n)
    )
    _record_build_failures(bench, built, purpose)
    kernels = [kernel for kernel in built if isinstance(kernel, Kernel)]
    for start in range(0, len(kernels), KERNELS_PER_EXECUTABLE):
        batch = kernels[start : start + KERNELS_PER_EXECUTABLE]
        items = [operator_item(kernel) for kernel in batch]
        _visit(bench, batch, items, purpose, 3, rng, _shifted(progress, start, len(kernels), 3))


def time_networks(
    bench: Bench,
    networks: Sequence[Network],
    purpose: Purpose,
    n_rounds: int,
    rng: np.random.Generator,
    progress: StageProgress = quiet,
    plan: TimingPlan = NETWORK_PLAN,
) -> None:
    """Time whole networks as programs of the best kernels known, in shuffled rounds."""
    operators = dict.fromkeys(op for network in networks for op in network.operators)
    kernels = best_kernels(bench, list(operators), progress)
    items = [network_item(assemble(network, kernels), plan) for network in networks]
    _visit(
        bench, list(kernels.values()), items, purpose, n_rounds, rng,
        lambda done, n: progress("time networks", done, n),
    )  # fmt: skip


def best_schedules(bench: Bench) -> dict[Operator, Schedule]:
    """The fastest measured schedule of each operator on this device."""
    return bench.store.best_schedules(bench.device_id, TUNING_PURPOSES)


def choose_schedule(bench: Bench) -> Callable[[Operator], Schedule]:
    """The schedule that would be used: the fastest measured, or the first candidate."""
    measured = best_schedules(bench)
    return lambda operator: measured.get(operator) or default_schedule(operator, bench.target)


def best_kernels(
    bench: Bench, operators: Sequence[Operator], progress: StageProgress = quiet
) -> dict[Operator, Kernel]:
    """Build the kernel that would be deployed for each operator.

    Raises:
        NoKernelError: a kernel does not compile.
    """
    choose = choose_schedule(bench)
    requests = [(operator, choose(operator)) for operator in dict.fromkeys(operators)]
    built = build_kernels(
        requests, bench.target, bench.artifacts, lambda done, n: progress("compile", done, n)
    )
    kernels = {}
    for kernel in built:
        if isinstance(kernel, BuildFailure):
            raise NoKernelError(f"{kernel.operator.key} does not compile: {kernel.detail}")
        kernels[kernel.operator] = kernel
    return kernels


def link(bench: Bench, kernels: Sequence[Kernel]) -> Path:
    """Link kernels into one executable for the device."""
    with reported_disk(bench.link_folder):
        files = object_files(kernels, bench.artifacts, bench.link_folder / "objects")
        return link_executable(files, bench.target, bench.link_folder)


def operator_item(kernel: Kernel) -> Item:
    """An operator's kernel, timed alone and hot."""
    program = assemble(alone(kernel.operator), {kernel.operator: kernel})
    return Item(
        subject_kind="operator",
        subject=kernel.operator.key,
        kernel=kernel.name,
        schedule=kernel.schedule.text,
        operators=(),
        workload=program.workload,
        plan=OPERATOR_PLAN,
    )


def network_item(program: Program, plan: TimingPlan = NETWORK_PLAN) -> Item:
    """A whole program; the usual plan times it with and without timestamps between its calls."""
    return Item(
        subject_kind="network",
        subject=program.network.name,
        kernel=program.digest,
        schedule="",
        operators=tuple(operator.key for operator in program.network.operators),
        workload=program.workload,
        plan=plan,
    )


def _visit(
    bench: Bench,
    kernels: Sequence[Kernel],
    items: Sequence[Item],
    purpose: Purpose,
    n_rounds: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None],
) -> None:
    done = bench.store.rounds_done(bench.device_id, purpose)
    failed = bench.store.failed_kernels(bench.device_id)
    items = [item for item in items if (item.subject, item.schedule, item.kernel) not in failed]
    if all(item.round_key(index) in done for item in items for index in range(n_rounds)):
        return
    executable, canary = link_with_canary(bench, kernels)
    with bench.device.start(executable) as runner:
        sweep = Sweep(runner, canary, bench.store, bench.device_id, purpose, n_rounds, rng)
        measure(items, sweep, progress)


def canary_program(bench: Bench) -> Program:
    """The canary for a bench's target: always of the first candidate schedules."""
    requests = [(op, default_schedule(op, bench.target)) for op in CANARY.operators]
    kernels = {}
    for kernel in build_kernels(requests, bench.target, bench.artifacts):
        if isinstance(kernel, BuildFailure):
            raise NoKernelError(f"the canary does not compile: {kernel.detail}")
        kernels[kernel.operator] = kernel
    return assemble(CANARY, kernels)


def link_with_canary(bench: Bench, kernels: Sequence[Kernel]) -> tuple[Path, Item]:
    """Link kernels with the canary's; returns the executable, and the canary to visit."""
    canary = canary_program(bench)
    executable = link(bench, [*kernels, *canary.kernels])
    return executable, network_item(canary, CANARY_PLAN)


def _unbuilt_key(operator: Operator, schedule: Schedule) -> RoundKey:
    """What the store calls a schedule that did not compile: it is not tried again."""
    return RoundKey(operator.key, schedule.text, "", 0)


def _record_build_failures(
    bench: Bench, built: Sequence[Kernel | BuildFailure], purpose: Purpose
) -> None:
    visits = [
        Visit(
            device_id=bench.device_id,
            subject_kind="operator",
            subject=failure.operator.key,
            kernel="",
            schedule=failure.schedule.text,
            purpose=purpose,
            round_index=0,
            plan=OPERATOR_PLAN,
            outcome=Failure("build_error", failure.detail),
        )
        for failure in built
        if isinstance(failure, BuildFailure)
    ]
    if visits:
        bench.store.append(visits)


def _shifted(
    progress: StageProgress, start: int, n_kernels: int, n_rounds: int
) -> Callable[[int, int], None]:
    return lambda done, _: progress("time kernels", start * n_rounds + done, n_kernels * n_rounds)
