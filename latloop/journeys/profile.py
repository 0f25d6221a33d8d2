"""Profile a device for a search space: choose what to measure, and measure it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from profiler.runtime import time_networks
from searchspace.design import choose_design
from searchspace.space import SearchSpace

#: Visits to each whole network, each a fresh process.
N_ROUNDS = 5
#: Spaces with more operators than this are measured in part.
LARGE_SPACE_OPERATORS = 100


@dataclass(frozen=True, slots=True)
class ProfileSummary:
    """What a profile holds now.

    Attributes:
        n_operators: Operators of the space that were measured.
        n_space_operators: Operators that the space has.
        n_networks: Whole networks measured.
        n_failures: Visits that failed.
        utilization: Share of the time on the board, cooling down aside, in which kernels ran; None
            where everything was measured before.
        cooling_s: Seconds in which the board was left alone to cool down.
    """

    n_operators: int
    n_space_operators: int
    n_networks: int
    n_failures: int
    utilization: float | None
    cooling_s: float


def profile(
    workbench: Workbench,
    space: SearchSpace,
    n_networks: int,
    share: float,
    seed: int,
    progress: StageProgress = quiet,
) -> ProfileSummary:
    """Measure a share of a space's operators, and whole networks made of them.

    The same arguments choose the same networks, so that an interrupted profile goes on where it
    stopped.

    Raises:
        ValueError: n_networks below 1, or share outside (0, 1].
    """
    design = choose_design(space, n_networks, share, np.random.default_rng(seed))
    rng = np.random.default_rng()
    boards = workbench.store.boards
    last_session = boards.last_session(workbench.device_id)
    workbench.runtime.tune(design.operators, "tune", rng, progress)
    networks = [space.lower(genome) for genome in design.genomes]
    time_networks(workbench.runtime, networks, "profile", N_ROUNDS, rng, progress)
    measured = workbench.store.operator_latencies(workbench.device_id, {"tune"})
    known = {row.operator for row in measured}
    use = boards.use_of_sessions(workbench.device_id, after=last_session)
    return ProfileSummary(
        n_operators=len(known.intersection(space.operators())),
        n_space_operators=len(space.operators()),
        n_networks=len(networks),
        n_failures=workbench.store.n_failures(workbench.device_id),
        utilization=use.utilization,
        cooling_s=use.cooling_s,
    )


def default_share(space: SearchSpace) -> float:
    """Measure everything in a small space; leave a quarter of a large one to the model."""
    return 1.0 if len(space.operators()) <= LARGE_SPACE_OPERATORS else 0.75
