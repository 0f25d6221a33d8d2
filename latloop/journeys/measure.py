"""Prove a network's latency on its device."""

from __future__ import annotations

import numpy as np

from latloop.workbench import Workbench
from profiler.bench import (
    Bench,
    StageProgress,
    best_kernels,
    link_with_canary,
    network_item,
    quiet,
    tune,
)
from profiler.measure import Sweep
from profiler.network import Network
from profiler.program import Program, assemble
from profiler.sessions import N_SESSIONS, NetworkMeasurement, measure_network
from profiler.store import Purpose


def build_program(
    bench: Bench, network: Network, purpose: Purpose, progress: StageProgress = quiet
) -> Program:
    """Tune what has no kernel yet, and bind the network to the best kernels known."""
    tune(bench, network.operators, purpose, np.random.default_rng(), progress)
    return assemble(network, best_kernels(bench, network.operators, progress))


def measure_program(
    bench: Bench,
    program: Program,
    purpose: Purpose,
    progress: StageProgress = quiet,
    n_sessions: int = N_SESSIONS,
) -> NetworkMeasurement:
    """Time a program in spaced sessions; every session goes to the store."""
    executable, canary = link_with_canary(bench, program.kernels)
    with bench.device.start(executable) as runner:
        sweep = Sweep(
            runner=runner,
            canary=canary,
            store=bench.store,
            device_id=bench.device_id,
            purpose=purpose,
            n_rounds=n_sessions,
            rng=np.random.default_rng(),
        )
        item = network_item(program)
        return measure_network(item, sweep, lambda done, n: progress("sessions", done, n))


def measure(
    workbench: Workbench, network: Network, progress: StageProgress = quiet
) -> NetworkMeasurement:
    """Measure a network on the device; kernels that are missing are tuned first."""
    program = build_program(workbench.bench, network, "measure", progress)
    return measure_program(workbench.bench, program, "measure", progress)
