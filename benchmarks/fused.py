"""Depthwise convolutions with the pointwise ones that read them: one kernel against two.

Every pair of some networks is tuned both ways, and the best kernels are timed in turn in one
process; then the networks with pairs joined and apart. Resumable: a pair that is done is not done
again. About 10 minutes from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from common import keep, parser
from kernels import cases, onnx_file
from operators import DoneFile

from devices.device import Timing, Workload
from latloop.cli.output import StageProgress, progress_bars
from latloop.home import Home
from latloop.models import as_model, resolve_model
from latloop.workbench import Workbench, open_workbench
from profiler.measure import WHOLE_PLAN
from profiler.network import Network
from profiler.pairs import join_pairs, split_pairs
from profiler.program import alone
from profiler.runtime import Model
from profiler.statistics import visit_median_us

N_ROUNDS = 15


#: Of those of `kernels.py`: networks that hold pairs.
NETWORKS = (
    "nas_bench_macro 11110110",
    "nas_bench_macro 22222222",
    "MobileNetV2",
    "ofa_mbv3 median",
    "ofa_mbv3 largest",
)


def networks(workbench: Workbench, only: str) -> dict[str, Network]:
    """The networks by name."""
    chosen = {case.name: case for case in cases() if case.name in NETWORKS and only in case.name}
    found = {}
    for name in filter(chosen.__contains__, NETWORKS):
        path = onnx_file(chosen[name], workbench.home.folder / "onnx")
        model = as_model(resolve_model(str(path), workbench.home.artifacts))
        found[name] = model.network
    return found


def in_turn(
    subjects: Mapping[str, Network], workbench: Workbench, bar: StageProgress
) -> dict[str, list[float]]:
    """Tune networks and time their programs in turn; microseconds of each visit."""
    operators = [op for network in subjects.values() for op in network.operators]
    workbench.runtime.tune(operators, "tune", np.random.default_rng(0), bar)
    prepared = workbench.runtime.prepare([Model(network) for network in subjects.values()])
    workloads: list[Workload] = [bound.item(WHOLE_PLAN).workload for bound in prepared.bound]
    found: dict[str, list[float]] = {name: [] for name in subjects}
    with workbench.device.start(prepared.link().executable) as runner:
        for _ in range(N_ROUNDS):
            for name, workload in zip(subjects, workloads, strict=True):
                outcome = runner.time(workload, WHOLE_PLAN)
                if not isinstance(outcome, Timing):
                    raise RuntimeError(f"{name}: {outcome}")
                found[name].append(visit_median_us(outcome.block_ns, outcome.n_repeats))
    return found


def compare(network: Network, workbench: Workbench, bar: StageProgress) -> dict[str, Any]:
    """One kernel for each pair against two."""
    subjects = {"one_us": join_pairs(network), "two_us": split_pairs(network)}
    times = in_turn(subjects, workbench, bar)
    ratio = np.array(times["one_us"]) / np.array(times["two_us"])
    return {"ratio": float(np.median(ratio)), **times}


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--only", default="", help="A part of the names of the networks to run")
    given = arguments.parse_args()
    with open_workbench(Home(given.home), given.device) as workbench, progress_bars() as bar:
        done = DoneFile(given.home / "fused-done.json")
        chosen = networks(workbench, given.only)
        joined = [op for network in chosen.values() for op in join_pairs(network).operators]
        rows = []
        for operator in dict.fromkeys(op for op in joined if op.kind == "separable_conv2d"):
            row = done.once(operator.key, lambda o=operator: compare(alone(o), workbench, bar))
            schedule = workbench.runtime.choose_schedule()(operator).text
            rows.append(row | {"operator": operator.key, "schedule": schedule})
            print(f"{row['ratio']:.3f} {schedule} {operator.key}")
        whole = []
        for name, network in chosen.items():
            row = done.once(name, lambda n=network: compare(n, workbench, bar))
            whole.append(row | {"name": name})
            print(f"{row['ratio']:.3f} {name}")
        if not given.only:
            print(f"raw figures: {keep('fused', workbench, {'pairs': rows, 'networks': whole})}")


if __name__ == "__main__":
    main()
