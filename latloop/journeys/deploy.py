"""Build a network for a device, check what it computes, and prove its latency there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from latloop.journeys.answers import (
    N_CHECKED_INPUTS,
    answer_by_module,
    answer_by_onnx,
    compare_answers,
    draw_inputs,
    known_answers,
)
from latloop.journeys.measure import measure_prepared
from latloop.journeys.memory import plan_memory
from latloop.models import Subject, Subnet, as_model
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from profiler.deployment import (
    MODEL_FILE,
    Deployment,
    read_report,
    write_report,
)
from profiler.importers.kept import Answer
from profiler.output_check import OutputCheck
from profiler.plan import ArenaPlan
from profiler.recovery import Held, hold_session
from profiler.runtime import Array, Model, Prepared
from profiler.sessions import NetworkMeasurement
from profiler.sweep import unnoticed

#: Where no trained weights exist they are drawn, and every report says so.
WEIGHTS_NOTE = "seeded random weights, not trained: the accuracy is that of the trained subnet"
OWN_WEIGHTS_NOTE = "the model's own"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A deployment after it was checked and timed on its device.

    Attributes:
        deployment: The folder.
        outputs: How far the program agrees with its model, and a subnet's ONNX model with torch.
        measurement: On the device.
        limit_us: What it must meet, or None.
    """

    deployment: Deployment
    outputs: OutputCheck
    measurement: NetworkMeasurement
    limit_us: float | None

    @property
    def meets_limit(self) -> bool | None:
        """Whether the limit holds; None without one."""
        return None if self.limit_us is None else self.measurement.meets(self.limit_us)


def deploy(
    workbench: Workbench,
    subject: Subject,
    folder: Path,
    limit_us: float | None = None,
    seed: int = 0,
    progress: StageProgress = quiet,
    plan: ArenaPlan | None = None,
) -> Verdict:
    """Write a deployment and verify it.

    Args:
        workbench: The device.
        subject: The network; not a deployment.
        folder: Made if missing; an earlier deployment there is replaced.
        limit_us: What it must meet, in microseconds.
        seed: Draws a subnet's weights, and the inputs that outputs are compared on.
        progress: Called as work goes on.
        plan: Where the program's tensors lie; None plans greedily.

    Raises:
        TooLargeForBoardError: the network does not fit into the board's memory.
    """
    plan = plan or plan_memory(workbench, subject.network)
    rng = np.random.default_rng(seed)
    progress("build", 0, 4)
    runtime, network = workbench.runtime, subject.network
    runtime.tune(network.operators, "measure", np.random.default_rng(), progress)
    progress("build", 1, 4)
    model, module = _load(subject, rng)
    progress("build", 2, 4)
    deployment = runtime.deploy(replace(model, plan=plan), folder, progress)
    progress("build", 3, 4)
    prepared = runtime.open(deployment)
    if module is None:
        outputs = _check(workbench, prepared, known_answers(deployment, rng))
    else:
        outputs = _check_subnet(workbench, deployment, prepared, module, rng)
    progress("build", 4, 4)
    measurement = measure_prepared(workbench.bench, prepared, "verify", "verify", progress)
    verdict = Verdict(deployment, outputs, measurement, limit_us)
    note = OWN_WEIGHTS_NOTE if module is None else WEIGHTS_NOTE
    write_report(folder, _describe(workbench, verdict, plan) | {"weights": note})
    return verdict


def verify(
    workbench: Workbench,
    deployment: Deployment,
    limit_us: float | None = None,
    progress: StageProgress = quiet,
) -> Verdict:
    """Check a deployment's outputs and time it again; its report is brought up to date.

    Args:
        workbench: The device.
        deployment: From `read_deployment`.
        limit_us: What it must meet; None takes the limit that it was deployed with.
        progress: Called as work goes on.
    """
    report = read_report(deployment.folder)
    limit_us = limit_us or report.get("limit_us")
    rng = np.random.default_rng()
    prepared = workbench.runtime.open(deployment)
    outputs = _check(workbench, prepared, known_answers(deployment, rng))
    measurement = measure_prepared(workbench.bench, prepared, "verify", "verify", progress)
    verdict = Verdict(deployment, outputs, measurement, limit_us)
    report |= _measured(workbench, verdict)
    write_report(deployment.folder, report)
    return verdict


def _load(subject: Subject, rng: np.random.Generator) -> tuple[Model, Any]:
    """A model with its weights; for a subnet also the torch module that has them."""
    source = subject.source
    if not isinstance(source, Subnet):
        return as_model(subject), None
    module = source.space.module(source.genome, rng)
    return Model(subject.network, source.space.weights(module)), module


def _check(
    workbench: Workbench,
    prepared: Prepared,
    answers: Sequence[Answer],
    others: Sequence[Sequence[Answer]] = (),
) -> OutputCheck:
    """Run what is prepared on the inputs of a model's answers, and compare."""

    def work(held: Held) -> list[dict[str, Array]]:
        return [prepared.bound[0].run(held.runner, answer.inputs) for answer in answers]

    ours = hold_session(workbench.bench, prepared.link().executable, work, unnoticed)
    ways = [[answer.outputs for answer in way] for way in others]
    return compare_answers(answers, [*ways, ours])


def _check_subnet(
    workbench: Workbench,
    deployment: Deployment,
    prepared: Prepared,
    module: Any,
    rng: np.random.Generator,
) -> OutputCheck:
    """Compare the program and its ONNX model with the torch module that both were made from."""
    inputs = [draw_inputs(deployment, rng) for _ in range(N_CHECKED_INPUTS)]
    (output,) = deployment.outputs
    by_torch = answer_by_module(module, inputs, output)
    by_onnx = answer_by_onnx(deployment.folder / MODEL_FILE, inputs, may_be_fast=False)
    return _check(workbench, prepared, by_torch, [by_onnx])


def _describe(workbench: Workbench, verdict: Verdict, plan: ArenaPlan) -> dict[str, object]:
    deployment = verdict.deployment
    return {
        "network": deployment.network,
        "n_calls": len(plan.order),
        "arena_bytes": deployment.workload.arena_bytes,
        "peak_activation_bytes": plan.arena_bytes,
        "plan_is_optimal": plan.is_optimal,
        "weight_bytes": deployment.workload.weight_bytes,
        "versions": dict(workbench.runtime.versions()),
        **_measured(workbench, verdict),
    }


def _measured(workbench: Workbench, verdict: Verdict) -> dict[str, object]:
    measurement = verdict.measurement
    return {
        "device": workbench.device.name,
        "board": asdict(workbench.fingerprint.board),
        "runtime": asdict(workbench.fingerprint.runtime),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "limit_us": verdict.limit_us,
        "meets_limit": verdict.meets_limit,
        "measured_ms": measurement.latency_us / 1e3,
        "measured_low_ms": measurement.low_us / 1e3,
        "measured_high_ms": measurement.high_us / 1e3,
        "measured_upper_ms": measurement.upper_us / 1e3,
        "confidence": measurement.confidence,
        "session_ms": [us / 1e3 for us in measurement.session_us],
        "flags": list(measurement.flags),
        "max_output_error": verdict.outputs.max_error,
        "min_output_difference": verdict.outputs.min_difference,
        "outputs_agree": verdict.outputs.passes,
        "n_checked_inputs": verdict.outputs.n_inputs,
    }
