"""Eight operators against MetaSchedule and the roofline, and more against the roofline.

Ours are tuned from nothing, each in a home of its own; MetaSchedule tunes the same; then both
kernels, the peak and the bandwidth of the core are timed in turn. Resumable: what is done for one
side of one operator is not done again. About 25 minutes from nothing.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, keep, parser
from kernels import Case as NetworkCase
from kernels import onnx_file
from machine import peak, read
from metaschedule import Found, tune_all
from operator_cases import EIGHT, MORE, Case, necessary_flops
from operator_verdicts import ratio, share, verdicts
from operators_table import write_page
from turns import Contender, contender, kernel_name, time_in_turn

from latloop.cli.output import StageProgress, progress_bars
from latloop.home import Home
from latloop.models import as_model, resolve_model
from latloop.workbench import Workbench, open_workbench
from profiler.artifacts import ArtifactStore
from profiler.bench import quiet
from profiler.compilers import Compilers
from profiler.operator import Operator
from profiler.program import alone
from profiler.runtime import Model
from profiler.runtimes.own import OwnRuntime
from profiler.store import Store

N_ROUNDS = 11
N_TRIALS = 64
#: Tuned first in every fresh home, so that the runner and the canary are built.
WARM = Operator("add", (1, 4, 4, 64), 64)
NETWORK = NetworkCase("mobile", "MobileNetV2", "tests.zoo.mobilenet:mobilenet_v2")


class DoneFile:
    """What was found, by name, in a file that is written after each step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """What was found under a name; found now if it was not."""
        if name not in self._found:
            self._found[name] = find()
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self._found))
            new.replace(self._path)
        return self._found[name]


def own_runtime(workbench: Workbench, store: Store, artifacts: ArtifactStore) -> OwnRuntime:
    """The workbench's runtime, with results and builds elsewhere."""
    runtime = workbench.runtime
    assert isinstance(runtime, OwnRuntime)
    bench = replace(workbench.bench, store=store, artifacts=artifacts)
    return replace(runtime, bench=bench)


@contextmanager
def fresh_runtime(workbench: Workbench, folder: Path) -> Iterator[OwnRuntime]:
    """A runtime that knows no operator but `WARM`, and shares what the linker made.

    It times short lists, also where the workbench times every candidate.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    home = Home(folder)
    with Store.open(home.store) as store:
        store.register_device(workbench.fingerprint)
        found = own_runtime(workbench, store, ArtifactStore(home.artifacts))
        runtime = replace(found, policy=replace(found.policy, is_exhaustive=False))
        _seconds_to_run(runtime, Model(alone(WARM)))
        yield runtime


def _seconds_to_run(runtime: OwnRuntime, model: Model, bar: StageProgress = quiet) -> float:
    """Tune a network, build what is best and link it; in seconds."""
    start = time.monotonic()
    runtime.tune(model.network.operators, "tune", np.random.default_rng(0), bar)
    runtime.prepare([model]).link()
    return time.monotonic() - start


def own_contender(runtime: OwnRuntime, operator: Operator) -> tuple[Contender, str]:
    """Our best kernel of an operator, and the schedule it has."""
    (bound,) = runtime.prepare([Model(alone(operator))]).bound
    (kernel,) = bound.program.kernels
    code = runtime.bench.artifacts.get(kernel.object_digest)
    assert code is not None
    assert kernel.name == kernel_name(code)
    return Contender(code, bound.workload), kernel.schedule.text


def tune_own(case: Case, workbench: Workbench, folder: Path) -> dict[str, object]:
    """Tune an operator from nothing, the compiler started; seconds, and those of its start."""
    with Compilers() as compilers:
        start = time.monotonic()
        compilers.start()
        start_s = time.monotonic() - start
    with fresh_runtime(workbench, folder) as runtime:
        start = time.monotonic()
        runtime.tune([case.operator], "tune", np.random.default_rng(0))
        tune_s = time.monotonic() - start
        _, schedule = own_contender(runtime, case.operator)
    return {"tune_s": tune_s, "start_s": start_s, "schedule": schedule}


def time_case(case: Case, own: Contender, more: dict[str, Contender], workbench: Workbench) -> Any:
    """Time our kernel, the core's limits, and any other kernel in turn."""
    operator, target = case.operator, workbench.bench.target
    n_bytes = operator.input_bytes + operator.weight_bytes + operator.output_bytes
    (peak_contender, peak_flops), (read_contender, read_bytes) = peak(target), read(target, n_bytes)
    sides = {"own_us": own, **more, "peak_us": peak_contender, "read_us": read_contender}
    return {
        "name": case.name,
        "operator": operator.key,
        "judged": case.judged,
        "n_flops": necessary_flops(operator),
        "n_bytes": n_bytes,
        "peak_flops": peak_flops,
        "read_bytes": read_bytes,
        **time_in_turn(sides, workbench.bench, N_ROUNDS),
    }


def run_eight(
    cases: list[Case], workbench: Workbench, done: DoneFile, n_trials: int
) -> list[dict[str, Any]]:
    """Tune both sides of each operator and time them in turn."""
    folder = workbench.home.folder / "operators"
    operators = [case.operator for case in cases]
    theirs = tune_all(operators, folder / "metaschedule", n_trials, Path(".metaschedule"))
    rows = []
    for case in cases:
        home = folder / case.name.replace(" ", "-")
        own = done.once(f"own {case.name}", lambda c=case, h=home: tune_own(c, workbench, h))
        found = theirs[case.operator]
        row = done.once(
            f"eight {case.name} {n_trials}",
            lambda c=case, h=home, f=found: time_eight(c, h, f, workbench),
        )
        print(f"{case.name:32s} {share(row):.3f} of the roofline, {ratio(row):.3f} of theirs")
        rows.append(row | {"own": own, "theirs": asdict(found)})
    return rows


def time_eight(case: Case, folder: Path, theirs: Found, workbench: Workbench) -> Any:
    """Time the kernels of both sides in turn."""
    object_file = workbench.home.folder / "operators" / "metaschedule" / theirs.object_file
    x, *weights, out = theirs.shapes
    their = contender(object_file.read_bytes(), [x], weights, out)
    home = Home(folder)
    with Store.open(home.store) as store:
        artifacts = ArtifactStore(home.artifacts)
        runtime = own_runtime(workbench, store, artifacts)
        own, _ = own_contender(runtime, case.operator)
    return time_case(case, own, {"their_us": their}, workbench)


def run_more(
    cases: list[Case], workbench: Workbench, done: DoneFile, bar: StageProgress
) -> list[dict[str, Any]]:
    """Tune more operators and time each in turn with the core's limits."""
    runtime = workbench.runtime
    assert isinstance(runtime, OwnRuntime)
    runtime.tune([case.operator for case in cases], "tune", np.random.default_rng(0), bar)

    def find(case: Case) -> Any:
        own, schedule = own_contender(runtime, case.operator)
        return time_case(case, own, {}, workbench) | {"own": {"schedule": schedule}}

    rows = []
    for case in cases:
        rows.append(done.once(f"more {case.name}", lambda c=case: find(c)))
        print(f"{case.name:32s} {share(rows[-1]):.3f} of the roofline")
    return rows


def tune_network(workbench: Workbench, bar: StageProgress) -> dict[str, object]:
    """Seconds to tune a whole network from nothing, and again with everything kept."""
    path = onnx_file(NETWORK, workbench.home.folder / "onnx")
    with fresh_runtime(workbench, workbench.home.folder / "operators" / "network") as runtime:
        model = as_model(resolve_model(str(path), runtime.bench.artifacts.folder))
        tune_s = _seconds_to_run(runtime, model, bar)
        cached_s = _seconds_to_run(runtime, model)
    return {
        "name": NETWORK.name,
        "n_operators": len(set(model.network.operators)),
        "tune_s": tune_s,
        "cached_s": cached_s,
    }


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--only", default="", help="A part of the names of the operators to run")
    arguments.add_argument("--trials", type=int, default=N_TRIALS, help="Of MetaSchedule")
    given = arguments.parse_args()
    with open_workbench(Home(given.home), given.device) as workbench, progress_bars() as bar:
        done = DoneFile(given.home / "operators-done.json")
        eight, more = ([c for c in cases if given.only in c.name] for cases in (EIGHT, MORE))
        figures = {
            "eight": run_eight(eight, workbench, done, given.trials),
            "more": run_more(more, workbench, done, bar),
            "network": done.once("network", lambda: tune_network(workbench, bar)),
        }
        print("\n".join(verdicts(figures)))
        if given.only or given.trials != N_TRIALS:
            return  # a part is no result to keep
        path = keep("operators", workbench, figures)
    write_page(path, RESULTS.parent.parent / "docs")
    print(f"raw figures: {path}")


if __name__ == "__main__":
    main()
