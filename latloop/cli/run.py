"""`latloop run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latloop.cli import options, output


def run(
    device: options.DeviceName,
    model: options.ModelName,
    inputs: Annotated[
        Path,
        typer.Option(
            help="NumPy .npz of arrays by the model's input names; images of subnets are NCHW.",
            exists=True,
        ),
    ],
    outputs: Annotated[Path, typer.Option(help="Where the outputs go, .npz by name.")],
    shape: options.ModelShapes = None,
    plan: options.PlanName = "greedy",
    seed: options.Seed = 0,
    exhaustive: options.Exhaustive = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a network's program once on the device, on real inputs.

    A model or a deployment runs with its own weights; SPACE:GENOME with seeded random ones.

    Example: latloop run local ./my-net --inputs in.npz --outputs out.npz
    """
    from latloop.journeys.memory import plan_memory  # noqa: PLC0415  # keeps `--help` fast
    from latloop.journeys.run import read_inputs, run_model, write_outputs  # noqa: PLC0415

    arrays = read_inputs(inputs)
    opened = options.workbench(device, store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        subject = options.resolve(model, shape, progress, seed)
        arena = plan_memory(bench, subject.network, plan)
        results = run_model(bench, subject, arrays, seed, progress, arena)
    write_outputs(outputs, results)
    shapes = {name: list(array.shape) for name, array in results.items()}
    if as_json:
        output.print_json(
            {"device": device, "model": model, "outputs": str(outputs), "shapes": shapes}
        )
        return
    for name, extents in shapes.items():
        output.say(f"{name}: {'x'.join(map(str, extents))} in {outputs}")
