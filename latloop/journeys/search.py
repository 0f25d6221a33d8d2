"""Search under a limit until a subnet is proved on the device to meet it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.latency import LatencyModel
from latloop.journeys.fit import fit
from latloop.journeys.measure import measure
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from profiler.network import count_operators
from profiler.runtime import Model
from profiler.sessions import NetworkMeasurement
from searchspace.accuracy import AccuracySource
from searchspace.constraint import LatencyLimit, Limits
from searchspace.search.result import (
    Candidate,
    InfeasibleLimitError,
    SearchProgress,
    SearchResult,
)
from searchspace.search.search import SearchOptions
from searchspace.search.search import search as search_predicted
from searchspace.space import SearchSpace

#: So many candidates are measured at the most before the search gives up.
MAX_MEASURED = 8
#: After a proof, subnets expected within this share of the limit are tried for their accuracy.
REACH = 0.95


@dataclass(frozen=True, slots=True)
class Proof:
    """A subnet, what was predicted of it, and what was measured.

    Attributes:
        candidate: The subnet.
        low_us, high_us: The 95 % interval of its predicted latency.
        measurement: On the device.
        meets_limit: Whether the upper 95 % bound of its median is at or below the limit.
    """

    candidate: Candidate
    low_us: float
    high_us: float
    measurement: NetworkMeasurement
    meets_limit: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a search returns.

    Attributes:
        result: The first search, before anything was measured for it.
        proofs: Every subnet that was measured, in order.
        seconds: Everything, with measuring.
    """

    result: SearchResult
    proofs: tuple[Proof, ...]
    seconds: float

    @property
    def answer(self) -> Proof:
        """The most accurate subnet that was proved; without one, the last that was measured."""
        proved = [proof for proof in self.proofs if proof.meets_limit]
        return max(proved, key=lambda p: p.candidate.accuracy_percent, default=self.proofs[-1])


def search(
    workbench: Workbench,
    space: SearchSpace,
    accuracy: AccuracySource,
    limits: Limits,
    seed: int,
    progress: StageProgress = quiet,
    *,
    may_recall: bool = False,
) -> Found:
    """Search, measure the best candidate, and learn from it until one is proved within the limit.

    A model that is unsure keeps far from the limit. So when a subnet is proved, more accurate ones
    whose expected latency is at most `REACH` of the limit are measured, too: what counts is what
    the device says.

    Args:
        workbench: The device.
        space: What is searched.
        accuracy: Of its subnets.
        limits: What the answer must keep.
        seed: Of an evolution.
        progress: Called as work goes on.
        may_recall: Whether what an earlier search measured of a subnet counts as its proof. Only
            for a caller that measures the answer once more.

    Raises:
        NoModelError: the device has no model yet.
        InfeasibleMemoryError: no subnet known fits the memory; carries the smallest.
        InfeasibleLimitError: no subnet known that fits meets the limit; carries the fastest.
    """
    limit = limits.latency
    started_s = time.monotonic()
    rng = np.random.default_rng(seed)
    options = SearchOptions(
        n_candidates=MAX_MEASURED,
        memory=limits.memory,
        device=workbench.device.name,
        on_progress=lambda state: _report(state, progress),
    )
    model = workbench.load_model()
    proofs: list[Proof] = []
    first = search_predicted(space, model.predict_networks_us, accuracy, limit, rng, options)
    candidate = _next_candidate(first, proofs)
    while candidate is not None and len(proofs) < MAX_MEASURED:
        proofs.append(_prove(workbench, model, space, candidate, limit, progress, may_recall))
        if not proofs[-1].meets_limit:
            model = fit(workbench)  # the measurement that disappointed is part of it now
        is_proved = any(proof.meets_limit for proof in proofs)
        asked = LatencyLimit(REACH * limit.limit_us, confidence=0.5) if is_proved else limit
        try:
            result = search_predicted(
                space, model.predict_networks_us, accuracy, asked, rng, options
            )
        except InfeasibleLimitError:
            if is_proved:
                break
            raise
        candidate = _next_candidate(result, proofs)
    return Found(first, tuple(proofs), time.monotonic() - started_s)


def _next_candidate(result: SearchResult, proofs: Sequence[Proof]) -> Candidate | None:
    """The best candidate not measured yet that beats what is proved; None when there is none."""
    tried = {proof.candidate.genome for proof in proofs}
    proved = max((p.candidate.accuracy_percent for p in proofs if p.meets_limit), default=-math.inf)
    for candidate in result.candidates:
        if candidate.genome not in tried and candidate.accuracy_percent > proved:
            return candidate
    return None


def _prove(
    workbench: Workbench,
    model: LatencyModel,
    space: SearchSpace,
    candidate: Candidate,
    limit: LatencyLimit,
    progress: StageProgress,
    may_recall: bool,
) -> Proof:
    network = space.lower(candidate.genome)
    predicted = model.predict_networks_us(count_operators([network.operators]))
    measurement = measure(workbench, Model(network), progress, may_recall=may_recall)
    return Proof(
        candidate=candidate,
        low_us=float(predicted.low_us[0]),
        high_us=float(predicted.high_us[0]),
        measurement=measurement,
        meets_limit=measurement.meets(limit.limit_us),
    )


def _report(state: SearchProgress, progress: StageProgress) -> None:
    progress("search", round(100 * state.share), 100)
