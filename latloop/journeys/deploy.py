"""Build a subnet for a device, check what it computes, and prove its latency there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latloop.journeys.measure import build_program
from latloop.workbench import Workbench
from profiler.bench import (
    Bench,
    StageProgress,
    canary_program,
    link_with_canary,
    network_item,
    quiet,
)
from profiler.build import compiler_versions
from profiler.canary import CANARY_PLAN
from profiler.deployment import (
    MODEL_FILE,
    Deployment,
    OutputCheck,
    compare_outputs,
    read_report,
    write_deployment,
    write_report,
)
from profiler.measure import NETWORK_PLAN, Item, Sweep
from profiler.program import Program
from profiler.sessions import N_SESSIONS, NetworkMeasurement, measure_network
from searchspace.genes import Genome
from searchspace.space import SearchSpace

Array = NDArray[np.float32]

N_CHECKED_INPUTS = 3
#: Where no trained weights exist they are drawn, and every report says so.
WEIGHTS_NOTE = "seeded random weights, not trained: the accuracy is that of the trained subnet"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A deployment after it was checked and timed on its device.

    Attributes:
        deployment: The folder.
        outputs: How far program, ONNX and torch agree.
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
    space: SearchSpace,
    genome: Genome,
    folder: Path,
    limit_us: float | None = None,
    seed: int = 0,
    progress: StageProgress = quiet,
) -> Verdict:
    """Write a deployment and verify it.

    Args:
        workbench: The device.
        space: Where the subnet comes from.
        genome: The subnet.
        folder: Made if missing; an earlier deployment there is replaced.
        limit_us: What it must meet, in microseconds.
        seed: Draws weights and the inputs that outputs are compared on.
        progress: Called as work goes on.
    """
    rng = np.random.default_rng(seed)
    progress("build", 0, 4)
    program = build_program(workbench.bench, space.lower(genome), "measure", progress)
    progress("build", 1, 4)
    module = space.module(genome, rng)
    progress("build", 2, 4)
    executable, _ = link_with_canary(workbench.bench, program.kernels)
    deployment = write_deployment(
        folder,
        program,
        executable,
        space.weights(module),
        workbench.device_id,
    )
    progress("build", 3, 4)
    inputs = [_draw_inputs(program, rng) for _ in range(N_CHECKED_INPUTS)]
    by_torch = [_run_torch(module, tensors) for tensors in inputs]
    outputs = _compare(workbench.bench, deployment, inputs, by_torch)
    progress("build", 4, 4)
    measurement = _time(workbench.bench, deployment, progress)
    verdict = Verdict(deployment, outputs, measurement, limit_us)
    write_report(folder, _describe(workbench, verdict, program))
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
    shapes = {n: deployment.workload.tensors[i].shape for n, i in deployment.inputs.items()}
    inputs = [_images(shapes, rng) for _ in range(N_CHECKED_INPUTS)]
    outputs = _compare(workbench.bench, deployment, inputs, ())
    measurement = _time(workbench.bench, deployment, progress)
    verdict = Verdict(deployment, outputs, measurement, limit_us)
    report |= _measured(workbench, verdict)
    write_report(deployment.folder, report)
    return verdict


def _draw_inputs(program: Program, rng: np.random.Generator) -> dict[str, Array]:
    return _images(dict(program.network.inputs), rng)


def _images(shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> dict[str, Array]:
    """Images with natural spectra, NCHW, one for each input (shapes NHWC)."""
    from searchspace.spaces.calibrate import example_inputs  # noqa: PLC0415  # imports torch

    return {
        name: example_inputs(rng, 1, (h, w, c)).transpose(0, 3, 1, 2)
        for name, (_, h, w, c) in shapes.items()
    }


def _run_torch(module: Any, inputs: dict[str, Array]) -> Array:
    import torch  # noqa: PLC0415  # seconds of import

    with torch.no_grad():
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()]
        return np.asarray(module(*tensors).numpy(), dtype=np.float32)


def _compare(
    bench: Bench,
    deployment: Deployment,
    inputs: list[dict[str, Array]],
    by_torch: list[Array] | tuple[()],
) -> OutputCheck:
    """Run model.onnx and the program on the inputs, and torch's outputs where they are known."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  # only when it is needed

    evaluator = ReferenceEvaluator(str(deployment.folder / MODEL_FILE))
    by_onnx = [np.asarray(evaluator.run(None, dict(tensors))[0]) for tensors in inputs]
    (name,) = deployment.outputs
    with bench.device.start(deployment.executable) as runner:
        by_program = [deployment.run(runner, tensors)[name] for tensors in inputs]
    if len(by_torch):
        return compare_outputs(by_torch, [by_onnx, by_program])
    return compare_outputs(by_onnx, [by_program])


def _time(bench: Bench, deployment: Deployment, progress: StageProgress) -> NetworkMeasurement:
    item = Item(
        subject_kind="network",
        subject=deployment.network,
        kernel=deployment.program_digest,
        schedule="",
        operators=deployment.operators,
        workload=deployment.workload,
        plan=NETWORK_PLAN,
    )
    canary = network_item(canary_program(bench), CANARY_PLAN)
    with bench.device.start(deployment.executable) as runner:
        sweep = Sweep(
            runner=runner,
            canary=canary,
            store=bench.store,
            device_id=bench.device_id,
            purpose="verify",
            n_rounds=N_SESSIONS,
            rng=np.random.default_rng(),
        )
        return measure_network(item, sweep, lambda done, n: progress("verify", done, n))


def _describe(workbench: Workbench, verdict: Verdict, program: Program) -> dict[str, object]:
    deployment = verdict.deployment
    return {
        "network": deployment.network,
        "weights": WEIGHTS_NOTE,
        "n_calls": len(deployment.workload.calls),
        "arena_bytes": deployment.workload.arena_bytes,
        "peak_activation_bytes": program.peak_live_bytes,
        "weight_bytes": deployment.workload.weight_bytes,
        "versions": dict(compiler_versions()),
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
