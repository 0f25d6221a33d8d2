"""`latloop predict`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from latloop.cli import options, output

if TYPE_CHECKING:
    from costmodel.latency import LatencyModel


def predict(
    device: options.DeviceName,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="SPACE:GENOME or a deployment's folder; - reads one MODEL a line from stdin and "
            "answers one JSON a line.",
        ),
    ],
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Predict a network's latency on a device, without running it.

    Example: latloop predict local nas_bench_macro:22212220
    """
    with options.workbench(device, store, devices) as bench:
        latency_model = bench.load_model()
        if model == "-":
            _serve(device, latency_model)
            return
        answer = _predict(device, latency_model, model)
    if as_json:
        output.print_json(answer)
        return
    low, high = answer["low_ms"], answer["high_ms"]
    output.say(f"{model} on {device}: {output.interval(answer['latency_ms'], low, high, 'ms')}")
    output.say(
        f"{answer['n_operators']} operators, {answer['peak_activation_bytes'] / 1e6:.2f} MB of "
        f"activations at the peak, {answer['weight_bytes'] / 1e6:.2f} MB of weights"
    )
    if answer["unseen_operators"]:
        output.say(
            f"{len(answer['unseen_operators'])} operators were never measured on {device}, so the "
            f"interval is wider; `latloop measure {device} {model}` measures them"
        )


def _predict(device: str, latency_model: LatencyModel, text: str) -> dict:  # type: ignore[type-arg]
    from latloop.models import resolve_model  # noqa: PLC0415  # keeps `--help` fast
    from profiler.network import count_operators  # noqa: PLC0415
    from profiler.plan import plan_arena  # noqa: PLC0415

    network = resolve_model(text).network
    prediction = latency_model.predict_networks_us(count_operators([network.operators]))
    return {
        "device": device,
        "model": text,
        "latency_ms": float(prediction.mean_us[0]) / 1e3,
        "low_ms": float(prediction.low_us[0]) / 1e3,
        "high_ms": float(prediction.high_us[0]) / 1e3,
        "confidence": prediction.confidence,
        "peak_activation_bytes": plan_arena(network).peak_live_bytes,
        "weight_bytes": network.weight_bytes,
        "n_operators": len(network.calls),
        "unseen_operators": [op.key for op in latency_model.unseen(network.operators)],
    }


def _serve(device: str, latency_model: LatencyModel) -> None:
    """Answer line by line; a line that cannot be answered gets an error and the rest go on."""
    for line in sys.stdin:
        text = line.strip()
        if not text:
            continue
        try:
            output.print_json(_predict(device, latency_model, text))
        except (ValueError, RuntimeError) as error:
            output.print_json({"device": device, "model": text, "error": str(error)})
