"""Judge a device's model on networks that were never measured before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from costmodel.evaluate import Evaluation, LearningPoint, learn_curve
from costmodel.evaluate import evaluate as judge
from costmodel.shift import Shift, find_shifts
from latloop.journeys.fit import NETWORK_PURPOSES, fit_rows, training_data
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from profiler.canary import N_REMEMBERED, CanaryWatch
from profiler.measure import WHOLE_PLAN
from profiler.measurement import NetworkLatency
from profiler.network import Network
from profiler.runtime import time_networks
from profiler.sessions import choose_n_sessions
from searchspace.space import SearchSpace

#: Visits to each network, more on a restless device: the truth must be steadier than the
#: predictions that it judges.
N_ROUNDS = 9
#: Networks of each space that the model learned from, measured once more: a change of the device
#: looks like an error of the model otherwise. The least whose median has a 95 % interval that one
#: odd network does not move.
N_KNOWN = 9
#: Parts of the measurements whose models make the learning curve.
LEARNING_SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
_SEED = 7


@dataclass(frozen=True, slots=True)
class Judgement:
    """Errors of the model on fresh networks, and the networks themselves.

    Attributes:
        evaluation: By family, with baselines.
        learning: The model's error against how much was measured.
        test: The fresh networks.
        shifts: How much longer networks take now than while the model learned, by space.
    """

    evaluation: Evaluation
    learning: tuple[LearningPoint, ...]
    test: tuple[NetworkLatency, ...]
    shifts: tuple[tuple[str, Shift], ...]


def evaluate(
    workbench: Workbench,
    spaces: Sequence[SearchSpace],
    n_networks: int,
    progress: StageProgress = quiet,
) -> Judgement:
    """Measure networks that nobody measured, and compare with what was predicted of them.

    The networks are drawn uniformly from each space. What they and their operators cost is kept
    for judging and never learned from, so that a second evaluation is as honest as the first.
    Some that the model learned from are measured with them, and tell how the device has changed.

    Raises:
        NoModelError: no model was fitted yet.
        ValueError: n_networks below 2.
    """
    if n_networks < 2:
        raise ValueError(f"n_networks must be >= 2, got {n_networks}")
    model = workbench.load_model()
    operators, networks = training_data(workbench)
    fresh = [network for space in spaces for network in draw_fresh(workbench, space, n_networks)]
    known = [network for space in spaces for network in draw_known(networks, space)]
    rows = _measure(workbench, fresh, known, progress)
    test = _of_networks(rows, fresh)
    progress("judge", 0, 2)
    fixed = np.random.default_rng(_SEED)
    evaluation = judge(model, operators, networks, test, fixed)
    progress("judge", 1, 2)
    learning = learn_curve(
        lambda some, whole: fit_rows(workbench, some, whole),
        operators,
        networks,
        test,
        LEARNING_SHARES,
        fixed,
    )
    progress("judge", 2, 2)
    shifts = find_shifts(networks, _of_networks(rows, known))
    return Judgement(evaluation, learning, test, shifts)


def _measure(
    workbench: Workbench,
    fresh: Sequence[Network],
    known: Sequence[Network],
    progress: StageProgress,
) -> tuple[NetworkLatency, ...]:
    """Tune what fresh networks need, and time all in one sweep."""
    rng = np.random.default_rng()
    operators = [op for network in fresh for op in network.operators]
    workbench.runtime.tune(operators, "evaluate", rng, progress)
    remembered_us = workbench.store.latest_us(workbench.device_id, "canary", N_REMEMBERED)
    n_rounds = choose_n_sessions(CanaryWatch(remembered_us).relative_deviation, N_ROUNDS)
    timed = [*fresh, *known]
    time_networks(workbench.runtime, timed, "evaluate", n_rounds, rng, progress, WHOLE_PLAN)
    return workbench.store.network_latencies(workbench.device_id, {"evaluate"})


def _of_networks(
    rows: Sequence[NetworkLatency], networks: Sequence[Network]
) -> tuple[NetworkLatency, ...]:
    names = {network.name for network in networks}
    return tuple(row for row in rows if row.name in names)


def draw_fresh(workbench: Workbench, space: SearchSpace, n_networks: int) -> list[Network]:
    """Networks that no model of this device has seen, the same each time while none is added."""
    rows = workbench.store.network_latencies(workbench.device_id, NETWORK_PURPOSES)
    seen = {row.name for row in rows}
    rng = np.random.default_rng(_SEED)
    fresh: dict[str, Network] = {}
    for _ in range(100 * n_networks):
        network = space.lower(space.sample(rng))
        if network.name not in seen:
            fresh.setdefault(network.name, network)
        if len(fresh) == n_networks:
            break
    return list(fresh.values())


def draw_known(networks: Sequence[NetworkLatency], space: SearchSpace) -> list[Network]:
    """Some of a space's networks that a model learned from: the same though others are added."""
    names = [row.name for row in networks if row.family == space.name]
    drawn = sorted(names, key=lambda name: sha256(name.encode()).digest())[:N_KNOWN]
    return [space.lower(space.parse(name.removeprefix(f"{space.name}:"))) for name in drawn]


def describe(judgement: Judgement) -> dict[str, object]:
    """The evaluation as the command line's JSON."""
    evaluation = judgement.evaluation
    return {
        "families": {name: asdict(errors) for name, errors in evaluation.families},
        "baselines": {
            name: {family: asdict(errors) for family, errors in families}
            for name, families in evaluation.baselines
        },
        "shifts": {name: asdict(shift) for name, shift in judgement.shifts},
    }


def keep(judgement: Judgement, path: Path) -> None:
    """Keep an evaluation for reports."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = describe(judgement) | {
        "learning": [asdict(point) for point in judgement.learning],
        "networks": [row.name for row in judgement.test],
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document, indent=1) + "\n")
    new.replace(path)


def profiled_spaces(workbench: Workbench) -> tuple[str, ...]:
    """Names of the spaces that the device was profiled for.

    Raises:
        ValueError: none was.
    """
    rows = workbench.store.network_latencies(workbench.device_id, {"profile"})
    names = tuple(dict.fromkeys(row.family for row in rows))
    if not names:
        name = workbench.device.name
        raise ValueError(
            f"device {name} has no profile yet; run `latloop profile {name} --space "
            f"nas_bench_macro` and `latloop fit {name}` first"
        )
    return names
