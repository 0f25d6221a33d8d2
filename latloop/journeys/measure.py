"""Prove a network's latency on its device."""

from __future__ import annotations

import numpy as np

from latloop.journeys.memory import with_plan
from latloop.workbench import Workbench
from profiler.bench import Bench, StageProgress, quiet
from profiler.measure import time_once
from profiler.recovery import Held, hold_session, refuse_quarantined
from profiler.runtime import Model, Prepared
from profiler.sessions import N_SESSIONS, NetworkMeasurement, measure_network, recall_network
from profiler.store import Purpose

#: Visits of `measure` with timestamps between calls.
N_TIMESTAMPED = 3


def measure(
    workbench: Workbench,
    model: Model,
    progress: StageProgress = quiet,
    *,
    may_recall: bool = False,
) -> NetworkMeasurement:
    """Measure a network on the device; operators that were not timed yet are tuned first.

    Args:
        workbench: The device.
        model: The network.
        progress: Called as work goes on.
        may_recall: Whether stored sessions of the same program will do.

    Raises:
        TooLargeForBoardError: the network does not fit into the board's memory.
    """
    model = with_plan(workbench, model)
    runtime = workbench.runtime
    runtime.tune(model.network.operators, "measure", np.random.default_rng(), progress)
    prepared = runtime.prepare([model], progress)
    if may_recall:
        item = prepared.bound[0].item()
        recalled = recall_network(item, workbench.store, workbench.device_id)
        if recalled is not None:
            return recalled
    return measure_prepared(runtime.bench, prepared, "measure", "sessions", progress, N_TIMESTAMPED)


def measure_prepared(
    bench: Bench,
    prepared: Prepared,
    purpose: Purpose,
    stage: str,
    progress: StageProgress = quiet,
    n_timestamped: int = 0,
) -> NetworkMeasurement:
    """Time the first of some prepared networks in spaced sessions; each goes to the store.

    When the board is lost meanwhile the sessions begin anew, because they belong together.

    Args:
        bench: The device.
        prepared: Networks that are built for it.
        purpose: Why they are timed.
        stage: What the sessions are called to `progress`.
        progress: Called after each session.
        n_timestamped: Visits after the sessions that time every call in its place, too, where the
            runtime can: they tell a later fit what the operators cost inside this network.
    """
    item = prepared.bound[0].item()
    refuse_quarantined(bench)
    linked = prepared.link()

    def work(held: Held) -> NetworkMeasurement:
        sweep = held.sweep(linked.canary, purpose, N_SESSIONS, np.random.default_rng())
        measurement = measure_network(item, sweep, lambda done, n: progress(stage, done, n))
        if item.plan.with_timestamps:
            visits = [time_once(item, sweep, index) for index in range(n_timestamped)]
            sweep.store.append(visits)
        return measurement

    return hold_session(bench, linked.executable, work, lambda text: progress(text, 0, 0))
