"""Prove a network's latency on its device."""

from __future__ import annotations

import numpy as np

from latloop.journeys.memory import with_plan
from latloop.workbench import Workbench
from profiler.bench import Bench, StageProgress, quiet
from profiler.measure import Sweep
from profiler.runtime import Model, Prepared
from profiler.sessions import N_SESSIONS, NetworkMeasurement, measure_network
from profiler.store import Purpose


def measure(
    workbench: Workbench, model: Model, progress: StageProgress = quiet
) -> NetworkMeasurement:
    """Measure a network on the device; operators that were not timed yet are tuned first.

    Raises:
        TooLargeForBoardError: the network does not fit into the board's memory.
    """
    model = with_plan(workbench, model)
    runtime = workbench.runtime
    runtime.tune(model.network.operators, "measure", np.random.default_rng(), progress)
    prepared = runtime.prepare([model], progress)
    return measure_prepared(runtime.bench, prepared, "measure", "sessions", progress)


def measure_prepared(
    bench: Bench,
    prepared: Prepared,
    purpose: Purpose,
    stage: str,
    progress: StageProgress = quiet,
) -> NetworkMeasurement:
    """Time the first of some prepared networks in spaced sessions; each goes to the store."""
    item = prepared.bound[0].item()
    linked = prepared.link()
    with bench.device.start(linked.executable) as runner:
        sweep = Sweep(
            runner=runner,
            canary=linked.canary,
            store=bench.store,
            device_id=bench.device_id,
            purpose=purpose,
            n_rounds=N_SESSIONS,
            rng=np.random.default_rng(),
        )
        return measure_network(item, sweep, lambda done, n: progress(stage, done, n))
