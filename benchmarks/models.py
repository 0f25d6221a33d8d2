"""Whatever people bring: published, trained and hand-made networks, through the whole way.

Each is imported, its operators are tuned, its outputs are compared with ONNX Runtime's or torch's,
it is predicted and measured. Resumable: a network that is done is not done again. About 40 minutes
from nothing. Writes the table in docs/models.md.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from common import RESULTS, keep, parser, profiled
from models_table import write_table

from costmodel.latency import LatencyModel
from devices.device import Timing
from latloop.cli.output import StageProgress
from latloop.journeys.deploy import deploy
from latloop.journeys.fit import fit_rows, training_data
from latloop.models import Subject, resolve_model
from latloop.workbench import Workbench
from profiler.network import count_operators
from profiler.plan import plan_arena
from profiler.runtime import time_networks

ZOO = Path(".zoo")
N_ROUNDS = 5
N_FOLDS = 5
#: What the device was profiled for before any of the networks came.
BEFORE = "nas_bench_macro"
#: Larger networks are planned by the greedy planner alone.
MOST_OPTIMAL_TENSORS = 150


@dataclass(frozen=True, slots=True)
class Case:
    """A network of the benchmark.

    Attributes:
        name: In the table.
        source: Where it comes from, for a person.
        model: As the command line takes it.
        shapes: For inputs with free dimensions.
    """

    name: str
    source: str
    model: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()


def _light() -> Iterator[Case]:
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        yield Case(path.stem.removeprefix("light_"), "onnx wheel, random weights", str(path))


def _trained() -> Iterator[Case]:
    ocr = ZOO / "rapidocr_onnxruntime" / "models"
    image = (1, 3, 320, 320)
    source = "rapidocr-onnxruntime, trained"
    yield Case("PP-OCRv4 det", source, str(ocr / "ch_PP-OCRv4_det_infer.onnx"), (("x", image),))
    line = (("x", (1, 3, 48, 320)),)
    yield Case("PP-OCRv4 rec", source, str(ocr / "ch_PP-OCRv4_rec_infer.onnx"), line)
    small = (("x", (1, 3, 48, 192)),)
    yield Case("PP-OCR cls", source, str(ocr / "ch_ppocr_mobile_v2.0_cls_infer.onnx"), small)
    speech = ZOO / "silero_vad" / "data" / "silero_vad_16k_sequence.onnx"
    yield Case("silero-vad", "silero-vad, trained", str(speech), (("input", (4, 576)),))
    files = ZOO / "magika" / "models" / "standard_v3_3" / "model.onnx"
    yield Case("magika", "magika, trained", str(files), (("bytes", (1, 2048)),))
    nude = ZOO / "nudenet" / "320n.onnx"
    yield Case("nudenet 320n", "nudenet, trained", str(nude), (("images", image),))


_TORCH = {
    "resnet:resnet18": "ResNet-18",
    "efficientnet:efficientnet_b0": "EfficientNet-B0",
    "vit:vit_tiny": "ViT-Tiny",
    "convnext:convnext_atto": "ConvNeXt-Atto",
    "swin:swin_blocks": "Swin blocks",
    "convolutions:squeeze_excite": "squeeze-excite",
    "convolutions:channel_shuffle": "channel shuffle",
    "convolutions:dense_connections": "dense connections",
    "convolutions:branches": "branches",
    "convolutions:dilation": "dilation",
    "convolutions:transposed_convolution": "transposed convolution",
    "convolutions:large_kernels": "large kernels",
    "mixers:layer_norm_gelu": "layer norm, GELU",
    "mixers:windowed_attention": "windowed attention",
    "mixers:linear_attention": "linear attention",
    "mixers:gated_linear_units": "gated linear units",
    "convolutions:bilinear_resize": "bilinear resize",
}


def cases() -> tuple[Case, ...]:
    """All networks, published ones first."""
    made = (Case(name, "torch, random weights", f"tests.zoo.{m}") for m, name in _TORCH.items())
    return (*_light(), *_trained(), *made)


def fit_before(workbench: Workbench) -> LatencyModel:
    """A model that knows `BEFORE` alone, whatever else the store holds by now."""
    operators, networks = training_data(workbench)
    known = [row for row in networks if row.family == BEFORE]
    held = {operator for row in known for operator in row.operators}
    return fit_rows(workbench, [row for row in operators if row.operator in held], known)


def run_case(
    case: Case, workbench: Workbench, model: LatencyModel, progress: StageProgress
) -> dict[str, object]:
    """Take one network the whole way; seconds are of this machine.

    The model is asked before anything of the network is measured.
    """
    start = time.monotonic()
    subject = resolve_model(case.model, workbench.home.artifacts, dict(case.shapes))
    imported = time.monotonic()
    plan = plan_arena(subject.network)
    planned = time.monotonic()
    before = model.predict_networks_us(count_operators([subject.network.operators]))
    unseen = model.unseen(subject.network.operators)
    tuning = time.monotonic()
    folder = workbench.home.folder / "models-deployed" / case.name.replace(" ", "-")
    verdict = deploy(workbench, subject, folder, progress=progress)
    deployed = time.monotonic()
    networks = [subject.network]
    rng = np.random.default_rng()
    time_networks(workbench.runtime, networks, "measure", N_ROUNDS, rng, progress)
    measured = verdict.measurement
    return {
        **asdict(case),
        "network": subject.network.name,
        "n_calls": len(subject.network.calls),
        "n_operators": len(set(subject.network.operators)),
        "n_unseen_before": len(unseen),
        "import_s": imported - start,
        "plan_s": planned - imported,
        "deploy_s": deployed - tuning,
        "max_output_error": verdict.outputs.max_error,
        "min_output_difference": verdict.outputs.min_difference,
        "outputs_agree": verdict.outputs.passes,
        "before_us": [float(x[0]) for x in (before.mean_us, before.low_us, before.high_us)],
        "measured_us": [measured.latency_us, measured.low_us, measured.high_us],
        "weight_bytes": subject.network.weight_bytes,
        "arena_bytes": plan.arena_bytes,
        "peak_live_bytes": plan.peak_live_bytes,
        **_optimal(subject),
    }


def _optimal(subject: Subject) -> dict[str, object]:
    n_tensors = len(subject.network.types)
    if n_tensors > MOST_OPTIMAL_TENSORS:
        return {"n_tensors": n_tensors}
    start = time.monotonic()
    plan = plan_arena(subject.network, mode="optimal")
    return {
        "n_tensors": n_tensors,
        "optimal_s": time.monotonic() - start,
        "optimal_arena_bytes": plan.arena_bytes,
        "optimal_peak_live_bytes": plan.peak_live_bytes,
        "is_optimal": plan.is_optimal,
    }


def in_place(network: str, workbench: Workbench) -> dict[str, object]:
    """What calls take between timestamps, by kind, and the program without any.

    Program and calls are compared by their means: a block is itself a mean of repetitions, which
    holds the slow ones, where a median of single repetitions does not. The median over the visits
    leaves out those that something disturbed.
    """
    visits = [
        visit
        for visit in workbench.store.visits(workbench.device_id, "network", network, {"measure"})
        if isinstance(visit.outcome, Timing) and visit.outcome.call_ns is not None
    ]
    ratios, by_kind = [], defaultdict(list)
    for visit in visits:
        calls_us = visit.outcome.call_ns / 1e3
        whole_us = np.mean(visit.outcome.block_ns) / visit.outcome.n_repeats / 1e3
        ratios.append(whole_us / calls_us.sum(axis=1).mean())
        shares: dict[str, float] = defaultdict(float)
        for key, us in zip(visit.operators, np.median(calls_us, axis=0), strict=True):
            shares[key.split(":")[0]] += us
        for kind, us in shares.items():
            by_kind[kind].append(us)
    return {
        "program_over_calls": float(np.median(ratios)),
        "kind_us": {kind: float(np.median(us)) for kind, us in sorted(by_kind.items())},
    }


def predict_left_out(workbench: Workbench, names: list[str]) -> dict[str, list[float]]:
    """Predictions by models that neither this network nor a fifth of the others entered as whole.

    Returns:
        By name: mean and bounds of the prediction, and the median that was measured, in us.
    """
    operators, networks = training_data(workbench)
    found = {}
    for fold in range(N_FOLDS):
        left_out = set(names[fold::N_FOLDS])
        if not left_out:
            continue
        model = fit_rows(workbench, operators, [n for n in networks if n.name not in left_out])
        for row in networks:
            if row.name in left_out:
                predicted = model.predict_networks_us(count_operators([row.operators]))
                bounds = (predicted.mean_us, predicted.low_us, predicted.high_us)
                found[row.name] = [*(float(each[0]) for each in bounds), row.latency_us]
    return found


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--only", help="A part of the names of the networks to run")
    given = arguments.parse_args()
    with profiled(given, (BEFORE,)) as (workbench, progress):
        model = fit_before(workbench)
        done_file = workbench.home.folder / "models-done.json"
        done = json.loads(done_file.read_text()) if done_file.exists() else {}
        for case in cases():
            if case.name in done or (given.only and given.only not in case.name):
                continue
            row = run_case(case, workbench, model, progress)
            done[case.name] = row
            done_file.write_text(json.dumps(done))
            print(json.dumps(row))
        left_out = predict_left_out(workbench, [row["network"] for row in done.values()])
        rows = []
        for row in (done[case.name] for case in cases() if case.name in done):
            *predicted_us, median_us = left_out[row["network"]]
            found = {"predicted_us": predicted_us, "median_us": median_us}
            found["model"] = Path(row["model"]).name
            rows.append(row | found | in_place(row["network"], workbench))
        path = keep("models", workbench, rows)
    write_table(path, RESULTS.parent.parent / "docs" / "models.md")
    print(f"raw figures: {path}")


if __name__ == "__main__":
    main()
