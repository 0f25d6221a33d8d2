"""`latloop verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latloop.cli import options, output
from latloop.cli.errors import ANSWER_IS_NO


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A deployment.")],
    device: Annotated[str, typer.Option("--device", help="Where to measure.")] = "local",
    latency: Annotated[
        str | None,
        typer.Option(metavar="T", help="The limit; by default the one it was deployed with."),
    ] = None,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a deployment again, and compare its outputs with its ONNX model's.

    Example: latloop verify ./my-net --device local
    """
    from latloop.journeys.deploy import verify as journey  # noqa: PLC0415  # keeps `--help` fast
    from profiler.deployment import read_deployment  # noqa: PLC0415
    from searchspace.constraint import parse_latency_us  # noqa: PLC0415

    limit_us = None if latency is None else parse_latency_us(latency)
    deployment = read_deployment(folder)
    with options.workbench(device, store, devices) as bench, output.progress_bars() as progress:
        verdict = journey(bench, deployment, limit_us, progress)
    output.print_verdict(verdict, device, as_json=as_json)
    if verdict.meets_limit is False or not verdict.outputs.passes:
        raise typer.Exit(ANSWER_IS_NO)
