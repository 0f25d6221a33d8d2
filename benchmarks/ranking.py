"""The ranking of candidates against the exhaustive list, and what it saves.

Every candidate of the operators of two search spaces and a few published networks is timed once.
Rankings that learned from the other operators, or from the other networks, then choose short lists,
which are compared with the best of all. Last, networks are tuned from nothing and once more with
everything kept, the toolchain warm. Resumable; about half an hour from nothing.
"""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

import numpy as np
from common import keep, parser
from kernels import Case, cases, onnx_file
from operators import DoneFile, fresh_runtime
from ranking_curve import by_operator, dealt, leave_out, summary

from costmodel.ranking import learn_ranking
from latloop.cli.output import StageProgress, progress_bars
from latloop.home import Home
from latloop.models import as_model, resolve_model
from latloop.workbench import Workbench, open_workbench
from profiler.artifacts import ArtifactStore
from profiler.bench import quiet
from profiler.network import Network
from profiler.operator import Operator
from profiler.runtime import Model
from profiler.runtimes.own import OwnRuntime
from profiler.tunings import read_trials
from searchspace.space import load_space

SPACES = ("nas_bench_macro", "ofa_mbv3")
#: Published networks, whose operators no space has.
NETWORKS = ("MobileNetV2", "EfficientNet-B0", "ResNet-18", "SqueezeNet")
#: Tuned from nothing.
TUNED = ("MobileNetV2", "ofa_mbv3 largest")


def load(case: Case, home: Home, artifacts: ArtifactStore) -> Network:
    """A network of the kernels' benchmark, imported where it must be.

    The loops of its generic operators are kept in `artifacts`.
    """
    space, _, genome = case.source.partition(":")
    if space in SPACES:
        found = load_space(space)
        return found.lower(found.parse(genome))
    path = onnx_file(case, home.folder / "onnx")
    return as_model(resolve_model(str(path), artifacts.folder)).network


def families(workbench: Workbench, names: tuple[str, ...]) -> dict[str, list[Operator]]:
    """Operators by where they come from; one that several have belongs to the first."""
    found = {name: list(load_space(name).operators()) for name in names if name in SPACES}
    for case in cases():
        if case.name in names:
            found[case.name] = list(load(case, workbench.home, workbench.bench.artifacts).operators)
    seen: set[Operator] = set()
    for name, operators in found.items():
        found[name] = [op for op in dict.fromkeys(operators) if op not in seen]
        seen.update(operators)
    return found


def judge(workbench: Workbench, names: tuple[str, ...], bar: StageProgress) -> dict[str, Any]:
    """Time everything, then leave operators and whole families out."""
    found = families(workbench, names)
    for operators in found.values():
        workbench.runtime.tune(operators, "tune", np.random.default_rng(0), bar)
    family_of = {op: name for name, operators in found.items() for op in operators}
    trials = read_trials(workbench.store, "latloop", {"tune"})
    here = [trial for trial in trials if trial.device_id == workbench.device_id]
    groups = by_operator([trial for trial in here if trial.operator in family_of])
    return {
        "operators": [op.key for op in groups],
        "families": [family_of[op] for op in groups],
        "candidates": [len(members) for members in groups.values()],
        "operators_left_out": leave_out(groups, learn_ranking, dealt(groups)),
        "families_left_out": leave_out(groups, learn_ranking, family_of.__getitem__),
    }


def tune(runtime: OwnRuntime, model: Model, bar: StageProgress = quiet) -> dict[str, float]:
    """Tune a network, build what is best and link it: seconds of each stage, and in all."""
    seconds: dict[str, float] = {}
    start = last = time.monotonic()

    def noted(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        seconds[stage] = seconds.get(stage, 0.0) + now - last
        last = now
        bar(stage, done, total)

    runtime.tune(model.network.operators, "tune", np.random.default_rng(0), noted)
    runtime.prepare([model]).link()
    return seconds | {"all": time.monotonic() - start}


def tune_network(name: str, workbench: Workbench, bar: StageProgress) -> dict[str, Any]:
    """Seconds to tune a whole network from nothing, and again with everything kept."""
    (case,) = [case for case in cases() if case.name == name]
    folder = workbench.home.folder / "fresh" / name.replace(" ", "-")
    with fresh_runtime(workbench, folder) as runtime:
        model = Model(load(case, workbench.home, runtime.bench.artifacts))
        tuned_s, cached_s = tune(runtime, model, bar), tune(runtime, model)
    n_operators = len(set(model.network.operators))
    return {"name": name, "n_operators": n_operators, "tune_s": tuned_s, "cached_s": cached_s}


def run(given: Namespace) -> None:
    """All that is not done yet."""
    home = Home(given.home / "ranking")
    names = tuple(name for name in (*SPACES, *NETWORKS) if given.only in name)
    with (
        open_workbench(home, given.device, is_exhaustive=True) as workbench,
        progress_bars() as bar,
    ):
        done = DoneFile(home.folder / "done.json")
        figures = judge(workbench, names, bar)
        for what in ("operators_left_out", "families_left_out"):
            print(f"{what}, {len(figures['operators'])} operators")
            print("\n".join(summary(figures[what])))
        tuned = [done.once(name, lambda n=name: tune_network(n, workbench, bar)) for name in TUNED]
        for row in tuned:
            print(
                f"{row['name']}, {row['n_operators']} operators: {row['tune_s']['all']:.1f} s from "
                f"nothing, {row['cached_s']['all']:.2f} s with everything kept"
            )
        if not given.only:  # a part is no result to keep
            print(f"raw figures: {keep('ranking', workbench, figures | {'tuned': tuned})}")


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--only", default="", help="A part of the names of what is timed")
    run(arguments.parse_args())


if __name__ == "__main__":
    main()
