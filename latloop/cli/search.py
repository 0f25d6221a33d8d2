"""`latloop search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latloop.cli import options, output
from latloop.cli.errors import ANSWER_IS_NO


def search(
    device: options.DeviceName,
    space: options.SpaceName,
    latency: options.Latency,
    memory: options.MemoryLimitText = None,
    accuracy: options.AccuracyName = None,
    confidence: Annotated[
        float, typer.Option(help="Of the limit before measuring, in [0.5, 1).")
    ] = 0.95,
    folder: Annotated[
        Path | None, typer.Option(help="Where to deploy; by default in LATLOOP_HOME.")
    ] = None,
    seed: options.Seed = 0,
    exhaustive: options.Exhaustive = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Find the most accurate subnet within limits, prove its latency on the device, deploy it.

    Example: latloop search local --space nas_bench_macro --latency 2.5ms
    """
    from latloop.journeys.search_and_deploy import describe, search_and_deploy  # noqa: PLC0415
    from searchspace.accuracy import load_accuracy  # noqa: PLC0415  # keeps `--help` fast
    from searchspace.constraint import LatencyLimit, Limits, MemoryLimit  # noqa: PLC0415
    from searchspace.space import load_space  # noqa: PLC0415

    limit = LatencyLimit.parse(latency, confidence)
    limits = Limits(limit, None if memory is None else MemoryLimit.parse(memory))
    found_space = load_space(space)
    opened = options.workbench(device, store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        source = load_accuracy(found_space, accuracy, bench.home.accuracy)
        outcome = search_and_deploy(bench, found_space, source, limits, seed, folder, progress)
    answer = describe(outcome, source)
    if as_json:
        output.print_json(answer)
    else:
        _print(answer, limit.limit_us / 1e3)
    if not answer["meets_limit"]:
        raise typer.Exit(ANSWER_IS_NO)


def _print(answer: dict[str, object], limit_ms: float) -> None:
    def number(name: str) -> float:
        return float(str(answer[name]))

    error = answer["accuracy_error_percent"]
    spread = f" +- {number('accuracy_error_percent'):.2f}" if error is not None else ""
    predicted = (number("predicted_ms"), number("low_ms"), number("high_ms"))
    measured = (number("measured_ms"), number("measured_low_ms"), number("measured_high_ms"))
    rows = [
        ("subnet", f"{answer['space']}:{answer['subnet']}"),
        ("accuracy", f"{number('accuracy_percent'):.2f}{spread} %"),
        ("limit", f"{limit_ms:.2f} ms"),
        ("predicted", output.interval(*predicted, "ms")),
        ("measured", output.interval(*measured, "ms")),
        ("meets the limit", "yes" if answer["meets_limit"] else "no"),
        ("activations", f"{number('peak_activation_bytes') / 1e3:.1f} kB at the peak"),
        ("searched", f"{answer['evaluations']} subnets in {number('seconds'):.1f} s"),
        ("deployed in", str(answer["folder"])),
    ]
    output.print_table("", ("", "result"), rows)
