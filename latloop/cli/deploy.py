"""`latloop deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latloop.cli import options, output
from latloop.cli.errors import ANSWER_IS_NO


def deploy(
    device: options.DeviceName,
    model: options.ModelName,
    shape: options.ModelShapes = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where to write; by default in LATLOOP_HOME.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(metavar="T", help="A limit to prove, with its unit: 8ms.")
    ] = None,
    memory: options.MemoryLimitText = None,
    plan: options.PlanName = "greedy",
    seed: options.Seed = 0,
    exhaustive: options.Exhaustive = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Build a network for a device, check its outputs, and measure it there.

    Example: latloop deploy local nas_bench_macro:22212220 --latency 8ms
    """
    from latloop.journeys.deploy import deploy as journey  # noqa: PLC0415  # keeps `--help` fast
    from latloop.journeys.memory import plan_memory  # noqa: PLC0415
    from latloop.models import find_source  # noqa: PLC0415
    from searchspace.constraint import MemoryLimit, parse_latency_us  # noqa: PLC0415

    limit_us = None if latency is None else parse_latency_us(latency)
    most = None if memory is None else MemoryLimit.parse(memory)
    opened = options.workbench(device, store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        found = options.resolve(model, shape, progress, seed)
        subject = find_source(found, bench.home.artifacts, seed, progress)
        target = folder or bench.home.deployment(device, subject.network.name)
        arena = plan_memory(bench, subject.network, plan, most)
        verdict = journey(bench, subject, target, limit_us, seed, progress, arena)
    output.print_verdict(verdict, device, as_json=as_json)
    if verdict.meets_limit is False or not verdict.outputs.passes:
        raise typer.Exit(ANSWER_IS_NO)
