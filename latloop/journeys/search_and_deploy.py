"""From a limit to a folder: search, prove, deploy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from costmodel.latency import LatencyModel
from latloop.journeys.deploy import Verdict, deploy
from latloop.journeys.search import Found, search
from latloop.models import Subject, Subnet
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from searchspace.accuracy import AccuracySource
from searchspace.constraint import LatencyLimit, Limits
from searchspace.search.result import InfeasibleLimitError
from searchspace.space import SearchSpace

#: Beside the deployment: how its subnet was found.
SEARCH_FILE = "search.json"
#: So many subnets are deployed at the most until one keeps the limit.
MAX_DEPLOYED = 3
#: A limit that was missed by less is tightened by this factor.
LEAST_TIGHTENING = 1.03
#: So many random subnets are shown behind the front.
N_CLOUD = 1500


class SubnetRow(TypedDict):
    """A subnet in the search's file."""

    subnet: str
    latency_ms: float
    accuracy_percent: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A search and the deployment of what it found.

    Attributes:
        found: The search that found it.
        verdict: Its deployment.
        limits: What was asked for; `found` may have searched under a tighter limit.
        n_measured: Subnets that were measured in all.
    """

    found: Found
    verdict: Verdict
    limits: Limits
    n_measured: int


def search_and_deploy(
    workbench: Workbench,
    space: SearchSpace,
    accuracy: AccuracySource,
    limits: Limits,
    seed: int,
    folder: Path | None = None,
    progress: StageProgress = quiet,
) -> Outcome:
    """Search under limits and deploy the answer.

    A subnet is proved twice, by the search and as it was deployed. What an earlier search measured
    counts for the first, until a deployment shows that the device has changed. On a restless device
    one that was proved near its limit may be above it a minute later; then the search goes on under
    a limit that is as much tighter as the measurement was above it.

    Raises:
        NoModelError: the device has no model yet.
        InfeasibleMemoryError: no subnet known fits the memory.
        InfeasibleLimitError: no subnet known that fits meets the limit.
    """
    outcome = None
    asked = limits
    for _ in range(MAX_DEPLOYED):
        may_recall = outcome is None
        try:
            found = search(workbench, space, accuracy, asked, seed, progress, may_recall=may_recall)
        except InfeasibleLimitError:
            if outcome is None:
                raise
            break
        verdict = _deploy(workbench, space, found, limits, seed, folder, progress)
        n_before = 0 if outcome is None else outcome.n_measured
        outcome = Outcome(found, verdict, limits, n_before + len(found.proofs))
        if verdict.meets_limit:
            break
        excess = verdict.measurement.upper_us / limits.latency.limit_us
        asked = replace(asked, latency=_tightened(asked.latency, excess))
    assert outcome is not None
    cloud = _draw_cloud(space, workbench.load_model(), accuracy, np.random.default_rng(seed))
    keep_search(outcome, accuracy, cloud)
    return outcome


def _deploy(
    workbench: Workbench,
    space: SearchSpace,
    found: Found,
    limits: Limits,
    seed: int,
    folder: Path | None,
    progress: StageProgress,
) -> Verdict:
    candidate = found.answer.candidate
    name = f"{space.name}:{candidate.text}"
    target = folder or workbench.home.deployment(workbench.device.name, name)
    subject = Subject(space.lower(candidate.genome), Subnet(space, candidate.genome))
    return deploy(workbench, subject, target, limits.latency.limit_us, seed, progress)


def _tightened(limit: LatencyLimit, excess: float) -> LatencyLimit:
    return replace(limit, limit_us=limit.limit_us / max(excess, LEAST_TIGHTENING))


def describe(outcome: Outcome, accuracy: AccuracySource) -> dict[str, object]:
    """The outcome as the command line's JSON; measured values are the deployment's."""
    answer, measured = outcome.found.answer, outcome.verdict.measurement
    return {
        "space": outcome.found.result.space,
        "subnet": answer.candidate.text,
        "accuracy_percent": answer.candidate.accuracy_percent,
        "accuracy_error_percent": accuracy.error_bound_percent,
        "accuracy_source": accuracy.describe(),
        "predicted_ms": answer.candidate.mean_us / 1e3,
        "low_ms": answer.low_us / 1e3,
        "high_ms": answer.high_us / 1e3,
        "measured_ms": measured.latency_us / 1e3,
        "measured_low_ms": measured.low_us / 1e3,
        "measured_high_ms": measured.high_us / 1e3,
        "meets_limit": outcome.verdict.meets_limit,
        "outputs_agree": outcome.verdict.outputs.passes,
        "max_output_error": outcome.verdict.outputs.max_error,
        "n_measured": outcome.n_measured,
        "peak_activation_bytes": answer.candidate.peak_activation_bytes,
        "evaluations": outcome.found.result.n_evaluations,
        "seconds": outcome.found.seconds,
        "folder": str(outcome.verdict.deployment.folder),
    }


def _draw_cloud(
    space: SearchSpace, model: LatencyModel, accuracy: AccuracySource, rng: np.random.Generator
) -> list[SubnetRow]:
    """Random subnets with predicted latency and accuracy, to see the front against."""
    genomes = np.unique([space.sample(rng) for _ in range(N_CLOUD)], axis=0)
    latency_us = model.predict_networks_us(space.counts(genomes)).mean_us.tolist()
    percent = accuracy.accuracy_percent(genomes).tolist()
    texts = [space.format(tuple(map(int, genome))) for genome in genomes]
    return [
        SubnetRow(subnet=text, latency_ms=us / 1e3, accuracy_percent=top1)
        for text, us, top1 in zip(texts, latency_us, percent, strict=True)
        if math.isfinite(top1)
    ]


def keep_search(outcome: Outcome, accuracy: AccuracySource, cloud: Sequence[SubnetRow]) -> None:
    """Write how the subnet was found beside its deployment."""
    result = outcome.found.result
    document = describe(outcome, accuracy) | {
        "device_id": outcome.verdict.deployment.device_id,
        "limit_ms": outcome.limits.latency.limit_us / 1e3,
        "limit_confidence": outcome.limits.latency.confidence,
        "memory_limit_bytes": None if result.memory is None else result.memory.limit_bytes,
        "method": result.method,
        "front": [
            SubnetRow(
                subnet=candidate.text,
                latency_ms=candidate.mean_us / 1e3,
                accuracy_percent=candidate.accuracy_percent,
            )
            for candidate in result.front
        ],
        "cloud": list(cloud),
    }
    path = outcome.verdict.deployment.folder / SEARCH_FILE
    path.write_text(json.dumps(document, indent=1) + "\n")
