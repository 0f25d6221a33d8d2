"""Our programs against ONNX Runtime's: whole networks, timed in turn in one run.

Each network is one ONNX file that both sides take, so that ours pays for turning the input's
layout. Rounds alternate between the two; a round's ratio compares two visits in a row.
Resumable: a network that is done is not done again. About 15 minutes from nothing. With
`--threads N` both sides have N threads, pinned to the same cores.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from common import RESULTS, keep, parser
from kernels_table import newest_figures, results_name, write_page

from devices.device import Timing
from devices.ort import installed_version
from latloop.cli.output import StageProgress, progress_bars
from latloop.home import Home
from latloop.models import as_model, resolve_model
from latloop.workbench import Workbench, open_workbench
from profiler.measure import WHOLE_PLAN, Item, Sweep, time_once
from profiler.onnx_export import export_onnx
from profiler.runtime import Model
from searchspace.space import load_space

N_ROUNDS = 11
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@dataclass(frozen=True, slots=True)
class Case:
    """A network of the benchmark.

    Attributes:
        group: `mobile` or `other`: each has a goal of its own.
        name: In the table.
        source: `light:NAME` of the onnx wheel, `SPACE:GENOME`, or `module:function` of torch.
    """

    group: str
    name: str
    source: str


def cases() -> Iterator[Case]:
    """All networks."""
    yield Case("mobile", "MobileNetV2", "tests.zoo.mobilenet:mobilenet_v2")
    ofa = load_space("ofa_mbv3")
    drawn = [ofa.sample(np.random.default_rng(seed)) for seed in range(101)]
    drawn.sort(key=lambda genome: sum(op.n_flops for op in ofa.lower(genome).operators))
    for name, genome in (
        ("smallest", ofa.smallest()),
        ("median", drawn[50]),
        ("largest", ofa.largest()),
    ):
        yield Case("mobile", f"ofa_mbv3 {name}", f"ofa_mbv3:{ofa.format(genome)}")
    for genome in ("00000000", "11110110", "22222222"):
        yield Case("mobile", f"nas_bench_macro {genome}", f"nas_bench_macro:{genome}")
    yield Case("mobile", "EfficientNet-B0", "tests.zoo.efficientnet:efficientnet_b0")
    yield Case("mobile", "ShuffleNet", "light:shufflenet")
    yield Case("mobile", "SqueezeNet", "light:squeezenet")
    yield Case("other", "ResNet-18", "tests.zoo.resnet:resnet18")
    yield Case("other", "ResNet-50", "light:resnet50")
    yield Case("other", "DenseNet-121", "light:densenet121")
    yield Case("other", "Inception v1", "light:inception_v1")
    yield Case("other", "ViT-Tiny", "tests.zoo.vit:vit_tiny")
    yield Case("other", "ConvNeXt-Atto", "tests.zoo.convnext:convnext_atto")


def onnx_file(case: Case, folder: Path) -> Path:
    """The network as a file; written once."""
    module, _, name = case.source.partition(":")
    if module == "light":
        return LIGHT / f"light_{name}.onnx"
    path = folder / f"{case.name.replace(' ', '-')}.onnx"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    if module.startswith("tests."):
        _export_torch(module, name, new)
    else:
        space = load_space(module)
        genome = space.parse(name)
        weights = space.weights(space.module(genome, np.random.default_rng(0)))
        onnx.save(export_onnx(space.lower(genome), weights), str(new))
    new.replace(path)
    return path


def _export_torch(module: str, function: str, path: Path) -> None:
    import torch  # noqa: PLC0415  # seconds of import

    network, inputs = getattr(importlib.import_module(module), function)()
    torch.onnx.export(network.eval(), inputs, str(path), dynamo=False, opset_version=17)


@dataclass(frozen=True, slots=True)
class Side:
    """One runtime with one network, ready to be timed."""

    item: Item
    sweep: Sweep

    def visit_us(self, index: int) -> float:
        """Median of one visit, in microseconds."""
        visit = time_once(self.item, self.sweep, index)
        self.sweep.store.append([visit])
        if not isinstance(visit.outcome, Timing):
            raise RuntimeError(f"{self.item.subject}: {visit.outcome}")
        return float(np.median(visit.outcome.block_ns)) / visit.outcome.n_repeats / 1e3


def open_side(stack: ExitStack, workbench: Workbench, model: Model, bar: StageProgress) -> Side:
    """Build a network for a runtime and start its runner."""
    prepared = workbench.runtime.prepare([model], bar)
    linked = prepared.link()
    runner = stack.enter_context(workbench.device.start(linked.executable))
    rng = np.random.default_rng()
    sweep = Sweep(
        runner, linked.canary, workbench.store, workbench.device_id, "evaluate", N_ROUNDS, rng
    )
    return Side(prepared.bound[0].item(WHOLE_PLAN), sweep)


def run_case(case: Case, own: Workbench, ort: Workbench, bar: StageProgress) -> dict[str, object]:
    """Time both sides of one network."""
    path = onnx_file(case, own.home.folder / "onnx")
    model = as_model(resolve_model(str(path), own.home.artifacts))
    own.runtime.tune(model.network.operators, "measure", np.random.default_rng(), bar)
    with ExitStack() as stack:
        sides = [open_side(stack, workbench, model, bar) for workbench in (own, ort)]
        rounds = [[side.visit_us(index) for side in sides] for index in range(N_ROUNDS)]
    own_us, ort_us = np.array(rounds).T
    low, high = np.percentile(own_us / ort_us, [25, 75])
    return {
        **asdict(case),
        "threads": own.device.threads,
        "ort_version": installed_version(),
        "own_us": own_us.tolist(),
        "ort_us": ort_us.tolist(),
        "ratio": float(np.median(own_us / ort_us)),
        "ratio_quartiles": [float(low), float(high)],
    }


def inventory(home: Path, threads: int) -> Path:
    """A file with `local` and `local-ort` of so many threads."""
    path = home / f"devices-{threads}.toml"
    home.mkdir(parents=True, exist_ok=True)
    tables = (f"[device.{name}]\nthreads = {threads}\n" for name in ("local", "local-ort"))
    path.write_text("\n".join(tables))
    return path


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--only", help="A part of the names of the networks to run")
    arguments.add_argument("--threads", type=int, default=1, help="Threads of both sides")
    given = arguments.parse_args()
    n_cores = len(os.sched_getaffinity(0))
    if given.threads > n_cores:
        print(f"skipped: {given.threads} threads need as many cores, and there are {n_cores}")
        return
    devices = inventory(given.home, given.threads)
    with (
        open_workbench(Home(given.home), "local", devices_file=devices) as own,
        open_workbench(Home(given.home), "local-ort", devices_file=devices) as ort,
        progress_bars() as bar,
    ):
        name = results_name(given.threads)
        done_file = given.home / f"{name}-done.json"
        done = json.loads(done_file.read_text()) if done_file.exists() else {}
        for case in cases():
            if case.name in done or (given.only and given.only not in case.name):
                continue
            done[case.name] = row = run_case(case, own, ort, bar)
            done_file.write_text(json.dumps(done))
            print(f"{case.group:8s} {case.name:30s} {row['ratio']:.3f}")
        rows = [done[case.name] for case in cases() if case.name in done]
        path = keep(name, own, rows)
        figures = newest_figures(RESULTS, own.fingerprint.board.id)
    write_page(figures, RESULTS.parent.parent / "docs")
    print(f"raw figures: {path}")


if __name__ == "__main__":
    main()
