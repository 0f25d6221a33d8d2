"""Does compiling on another core disturb what is timed, and what does it save?

Candidates of a network's operators are visited in turn, alone and beside compilers that work on the
cores that do not measure. Then a network is tuned from nothing with and without such compilers, in
turn. Resumable; about ten minutes.
"""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, parser
from kernels import cases
from operators import DoneFile, fresh_runtime
from ranking import load, tune

from devices.board import Fingerprint
from devices.device import Device, Runner, Timing
from latloop.cli.output import StageProgress, progress_bars
from latloop.home import Home
from latloop.workbench import Workbench, open_workbench
from profiler.artifacts import ArtifactStore
from profiler.build import Kernel, build_kernels
from profiler.compilers import CompilerLostError, Compilers
from profiler.runtime import Model
from profiler.runtimes.own import OwnRuntime
from profiler.runtimes.tuning import N_TUNING_ROUNDS, operator_item
from profiler.schedules.space import candidates
from profiler.statistics import visit_median_us

NETWORK = "ofa_mbv3 largest"
N_OPERATORS = 24
N_CANDIDATES = 8
N_ROUNDS = 9
N_TUNINGS = 3


@dataclass(frozen=True)
class Whole:
    """A device that wants the whole machine for itself."""

    device: Device

    @property
    def name(self) -> str:
        return self.device.name

    @property
    def host_cores(self) -> tuple[int, ...]:
        return tuple(os.sched_getaffinity(0))

    def fingerprint(self) -> Fingerprint:
        return self.device.fingerprint()

    def start(self, executable: Path) -> Runner:
        return self.device.start(executable)


@contextmanager
def compiling(kernels: list[Kernel], workbench: Workbench) -> Iterator[list[int]]:
    """Compile kernels again and again beside the cores that measure; gives the compilers' ids."""
    bench = workbench.bench
    requests = [(kernel.operator, kernel.schedule) for kernel in kernels]

    def work(compilers: Compilers) -> None:
        try:
            while True:
                with tempfile.TemporaryDirectory() as folder:
                    store = ArtifactStore(Path(folder))
                    build_kernels(requests, bench.target, store, compilers=compilers)
        except CompilerLostError:  # the end of the block below
            return

    with Compilers() as compilers:
        with tempfile.TemporaryDirectory() as folder:
            store = ArtifactStore(Path(folder))
            build_kernels(requests[:8], bench.target, store, compilers=compilers)
        with compilers.keep_off(bench.device.host_cores):
            thread = threading.Thread(target=work, args=(compilers,), daemon=True)
            thread.start()
            yield compilers.pids
    thread.join()


def disturb(workbench: Workbench, bar: StageProgress) -> list[dict[str, Any]]:
    """Visit kernels in turn, with compilers stopped and with compilers at work."""
    bench, runtime = workbench.bench, workbench.runtime
    assert isinstance(runtime, OwnRuntime)
    (case,) = [case for case in cases() if case.name == NETWORK]
    network = load(case, workbench.home, bench.artifacts)
    operators = list(dict.fromkeys(network.operators))
    chosen = operators[:: max(len(operators) // N_OPERATORS, 1)][:N_OPERATORS]
    requests = [
        (op, schedule) for op in chosen for schedule in candidates(op, bench.target)[:N_CANDIDATES]
    ]
    built = build_kernels(requests, bench.target, bench.artifacts, compilers=bench.compilers)
    kernels = [kernel for kernel in built if isinstance(kernel, Kernel)]
    rows: list[dict[str, Any]] = [
        {"operator": k.operator.key, "schedule": k.schedule.text, "alone_us": [], "beside_us": []}
        for k in kernels
    ]
    linked = runtime.link(kernels)
    with compiling(kernels, workbench) as pids, bench.device.start(linked.executable) as runner:
        steps = itertools.product(range(N_ROUNDS), range(len(kernels)))
        for done, (_, index) in enumerate(steps):
            for side, sent in (("alone_us", signal.SIGSTOP), ("beside_us", signal.SIGCONT)):
                for pid in pids:
                    os.kill(pid, sent)
                item = operator_item(kernels[index])
                outcome = runner.time(item.workload, item.plan)
                assert isinstance(outcome, Timing), outcome
                rows[index][side].append(visit_median_us(outcome.block_ns, outcome.n_repeats))
            bar("visit", done + 1, N_ROUNDS * len(kernels))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    return rows


def regret(rows: list[dict[str, Any]], side: str) -> list[float]:
    """What the choice by the first rounds of a side costs, judged by the later rounds alone."""
    found = []
    for key in dict.fromkeys(row["operator"] for row in rows):
        own = [row for row in rows if row["operator"] == key]
        truth = [float(np.median(row["alone_us"][N_TUNING_ROUNDS:])) for row in own]
        seen = [float(np.median(row[side][:N_TUNING_ROUNDS])) for row in own]
        found.append(truth[int(np.argmin(seen))] / min(truth) - 1)
    return found


def tunings(workbench: Workbench, bar: StageProgress) -> list[dict[str, float]]:
    """Seconds to tune a network from nothing: with compilers beside the visits, and without."""
    (case,) = [case for case in cases() if case.name == NETWORK]
    found = []
    for number in range(N_TUNINGS):
        seconds = {}
        for name in ("beside", "apart"):
            folder = workbench.home.folder / f"tuned-{name}-{number}"
            with fresh_runtime(workbench, folder) as runtime:
                if name == "apart":
                    whole = Whole(runtime.bench.device)
                    runtime = replace(runtime, bench=replace(runtime.bench, device=whole))  # noqa: PLW2901
                model = Model(load(case, workbench.home, runtime.bench.artifacts))
                seconds[name] = tune(runtime, model, bar)["all"]
        print(f"tuned in {seconds['beside']:.1f} s, {seconds['apart']:.1f} s with compilers apart")
        found.append(seconds)
    return found


def show(rows: list[dict[str, Any]]) -> None:
    ratios = [np.median(row["beside_us"]) / np.median(row["alone_us"]) for row in rows]
    low, middle, high, most = np.percentile(ratios, [5, 50, 95, 100])
    print(
        f"{len(rows)} kernels beside compilers over alone: median {middle:.3f}, 5 to 95 % "
        f"{low:.3f} to {high:.3f}, worst {most:.3f}"
    )
    for side in ("alone_us", "beside_us"):
        costs = regret(rows, side)
        print(
            f"chosen {side[:-3]}: {np.mean(costs):.2%} off the best in the mean, "
            f"{max(costs):.2%} at worst"
        )


def main() -> None:
    given = parser(__doc__ or "").parse_args()
    with open_workbench(Home(given.home), given.device) as workbench, progress_bars() as bar:
        if not set(os.sched_getaffinity(0)) - set(workbench.device.host_cores):
            print("no core is left beside those that measure: nothing to compare")
            return
        done = DoneFile(given.home / "overlap-done.json")
        rows = done.once("disturb", lambda: disturb(workbench, bar))
        show(rows)
        seconds = done.once("tunings", lambda: tunings(workbench, bar))
        print(f"raw figures: {keep('overlap', workbench, {'visits': rows, 'tunings': seconds})}")


if __name__ == "__main__":
    main()
