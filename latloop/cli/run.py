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
        Path, typer.Option(help="NumPy .npz of float32 arrays by input name, NCHW.", exists=True)
    ],
    outputs: Annotated[Path, typer.Option(help="Where the outputs go, .npz by name.")],
    seed: options.Seed = 0,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a network's program once on the device, on real inputs.

    A deployment runs with its weights; SPACE:GENOME with seeded random ones.

    Example: latloop run local ./my-net --inputs in.npz --outputs out.npz
    """
    from latloop.journeys.run import read_inputs, run_model, write_outputs  # noqa: PLC0415
    from latloop.models import resolve_model  # noqa: PLC0415  # keeps `--help` fast

    arrays = read_inputs(inputs)
    subject = resolve_model(model)
    with options.workbench(device, store, devices) as bench, output.progress_bars() as progress:
        results = run_model(bench, subject, arrays, seed, progress)
    write_outputs(outputs, results)
    shapes = {name: list(array.shape) for name, array in results.items()}
    if as_json:
        output.print_json(
            {"device": device, "model": model, "outputs": str(outputs), "shapes": shapes}
        )
        return
    for name, shape in shapes.items():
        output.say(f"{name}: {'x'.join(map(str, shape))} in {outputs}")
