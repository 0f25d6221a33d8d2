"""Search under a limit until a subnet is proved on the device to meet it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from costmodel.latency import LatencyModel
from latloop.journeys.fit import fit
from latloop.journeys.measure import measure
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from profiler.network import count_operators
from profiler.sessions import NetworkMeasurement
from searchspace.accuracy import AccuracySource
from searchspace.constraint import LatencyLimit
from searchspace.search.result import Candidate, SearchProgress, SearchResult
from searchspace.search.search import SearchOptions
from searchspace.search.search import search as search_predicted
from searchspace.space import SearchSpace

#: So many candidates are measured at the most before the search gives up.
MAX_MEASURED = 8


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
        result: The last search on the model.
        proofs: Every subnet that was measured, in order; the last is the answer.
        seconds: Everything, with measuring.
    """

    result: SearchResult
    proofs: tuple[Proof, ...]
    seconds: float

    @property
    def answer(self) -> Proof:
        """The subnet that the search gives back."""
        return self.proofs[-1]


def search(
    workbench: Workbench,
    model: LatencyModel,
    space: SearchSpace,
    accuracy: AccuracySource,
    limit: LatencyLimit,
    seed: int,
    progress: StageProgress = quiet,
) -> Found:
    """Search, measure the best candidate, and learn from it until one is proved within the limit.

    Raises:
        InfeasibleLimitError: no subnet known meets the limit; carries the fastest.
    """
    started_s = time.monotonic()
    rng = np.random.default_rng(seed)
    options = SearchOptions(
        n_candidates=MAX_MEASURED,
        device=workbench.device.name,
        on_progress=lambda state: _report(state, progress),
    )
    proofs: list[Proof] = []
    while True:
        result = search_predicted(space, model.predict_networks_us, accuracy, limit, rng, options)
        tried = {proof.candidate.genome for proof in proofs}
        untried = [c for c in result.candidates if c.genome not in tried]
        if not untried:
            break
        proofs.append(_prove(workbench, model, space, untried[0], limit, progress))
        if proofs[-1].meets_limit or len(proofs) == MAX_MEASURED:
            break
        model = fit(workbench)  # the measurement that disappointed is part of it now
    return Found(result, tuple(proofs), time.monotonic() - started_s)


def _prove(
    workbench: Workbench,
    model: LatencyModel,
    space: SearchSpace,
    candidate: Candidate,
    limit: LatencyLimit,
    progress: StageProgress,
) -> Proof:
    network = space.lower(candidate.genome)
    predicted = model.predict_networks_us(count_operators([network.operators]))
    measurement = measure(workbench, network, progress)
    return Proof(
        candidate=candidate,
        low_us=float(predicted.low_us[0]),
        high_us=float(predicted.high_us[0]),
        measurement=measurement,
        meets_limit=measurement.meets(limit.limit_us),
    )


def _report(state: SearchProgress, progress: StageProgress) -> None:
    progress("search", round(100 * state.share), 100)
