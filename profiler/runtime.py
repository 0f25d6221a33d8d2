"""What every runtime can do: time operators, make networks ready to run, and deploy them.

A runtime turns operators into code for one device. Latloop's own kernels are one
(`profiler.runtimes.own`), ONNX Runtime is another (`profiler.runtimes.ort`). Everything above works
with this interface alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from devices.device import Runner, TimingPlan
from profiler.bench import Bench, StageProgress, quiet, staged
from profiler.deployment import Deployment
from profiler.foreign import ForeignModel
from profiler.measure import NETWORK_PLAN, Item, measure
from profiler.measurement import OperatorLatency
from profiler.network import Network
from profiler.operator import Operator
from profiler.plan import ArenaPlan
from profiler.recovery import Held, hold_session, refuse_quarantined
from profiler.schedules.schedule import Schedule
from profiler.store import Purpose

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Model:
    """A network with what a runtime may want beside it.

    Attributes:
        network: Its operators.
        weights: Logical weights under the names of the network's calls; None where only the time
            counts, which does not depend on them.
        onnx_file: The ONNX model that the network was imported from, made plain; None where it has
            another source.
        shapes: The model's own shapes of inputs and outputs, by name; None for images that are NCHW
            in the model and NHWC in the network.
        answers_file: Inputs and what the model answered, where it has no ONNX form; see
            `profiler.foreign.ForeignModel`.
        plan: Where a runtime that manages memory itself puts the tensors; None for its usual plan.
    """

    network: Network
    weights: Mapping[str, Array] | None = None
    onnx_file: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    plan: ArenaPlan | None = None
    answers_file: Path | None = None

    @property
    def foreign(self) -> ForeignModel | None:
        """What a deployment keeps of a model that Latloop did not make."""
        if self.shapes is None:
            return None
        return ForeignModel(self.shapes, self.onnx_file, self.answers_file)


class Bound(Protocol):
    """A network as one runtime runs it."""

    def item(self, plan: TimingPlan = NETWORK_PLAN) -> Item:
        """The whole network, to be timed; without timestamps where the runtime has none."""

    def run(self, runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on inputs by name, as the network's ONNX model has them.

        Raises:
            ValueError: an input is missing, unknown, or has the wrong shape.
            DeploymentError: the program failed.
        """


@dataclass(frozen=True, slots=True)
class Linked:
    """What a device is started with.

    Attributes:
        executable: For `Device.start`.
        canary: A program in it that never changes.
    """

    executable: Path
    canary: Item


class Prepared(Protocol):
    """Networks that are built for a device."""

    @property
    def bound(self) -> tuple[Bound, ...]:
        """Each network, in the order in which they were given."""

    def link(self) -> Linked:
        """Put them all into one executable, with the canary."""


class Runtime(Protocol):
    """How operators become code on one device."""

    @property
    def bench(self) -> Bench:
        """The device, and where results and builds are kept."""

    def versions(self) -> tuple[tuple[str, str], ...]:
        """(component, version) pairs of everything that decides what code runs."""

    def tune(
        self,
        operators: Sequence[Operator],
        purpose: Purpose,
        rng: np.random.Generator,
        progress: StageProgress = quiet,
    ) -> None:
        """Time, each alone, the operators that were not timed yet, in the ways worth trying.

        Resumes where an earlier call stopped. Failures are rows in the store.
        """

    def choose_schedule(self) -> Callable[[Operator], Schedule]:
        """The schedule that would be used: the fastest measured, or the most promising one."""

    def operator_latencies(self, purposes: Collection[Purpose]) -> tuple[OperatorLatency, ...]:
        """What the store holds of each operator, as far as it adds up to networks."""

    def prepare(self, models: Sequence[Model], progress: StageProgress = quiet) -> Prepared:
        """Build networks for the device; weights that are not given hold anything.

        Raises:
            NoKernelError: an operator cannot be built.
        """

    def deploy(self, model: Model, folder: Path, progress: StageProgress = quiet) -> Deployment:
        """Write a network with its weights into a folder, all but the report.

        Raises:
            NoKernelError: an operator cannot be built.
            ValueError: the model has no weights.
        """

    def open(self, deployment: Deployment) -> Prepared:
        """A deployment, ready to be run and timed.

        Raises:
            DeploymentError: it was made for another runtime.
        """


def time_networks(
    runtime: Runtime,
    networks: Sequence[Network],
    purpose: Purpose,
    n_rounds: int,
    rng: np.random.Generator,
    progress: StageProgress = quiet,
    plan: TimingPlan = NETWORK_PLAN,
) -> None:
    """Time whole networks as they would be deployed, in shuffled rounds."""
    prepared = runtime.prepare([Model(network) for network in networks], progress)
    items = [bound.item(plan) for bound in prepared.bound]
    visit(
        runtime.bench, prepared.link, items, purpose, n_rounds, rng,
        staged(progress, "time networks"),
    )  # fmt: skip


def visit(
    bench: Bench,
    link: Callable[[], Linked],
    items: Sequence[Item],
    purpose: Purpose,
    n_rounds: int,
    rng: np.random.Generator,
    progress: StageProgress,
) -> None:
    """Visit items in rounds; nothing is linked or started where all visits were made already.

    A board or runner that is lost meanwhile is started again; see `profiler.recovery`.

    Args:
        bench: The device, and where results are kept.
        link: Makes the executable that holds the items' kernels.
        items: What is visited.
        purpose: Why.
        n_rounds: How often.
        rng: Shuffles each round.
        progress: Told how many visits are done, and in words what a person wants to know.

    Raises:
        DeviceError: the board cannot be had any more; see `profiler.recovery.hold_session`.
    """
    done = bench.store.rounds_done(bench.device_id, purpose)
    failed = bench.store.failed_kernels(bench.device_id)
    items = [item for item in items if item.name not in failed]
    if all(item.round_key(index) in done for item in items for index in range(n_rounds)):
        return
    refuse_quarantined(bench)
    linked = link()

    def work(held: Held) -> None:
        sweep = held.sweep(linked.canary, purpose, n_rounds, rng)
        measure(items, sweep, lambda done, n: progress("visits", done, n))

    hold_session(bench, linked.executable, work, lambda text: progress(text, 0, 0))
