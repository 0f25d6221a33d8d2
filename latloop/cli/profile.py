"""`latloop profile`."""

from __future__ import annotations

from typing import Annotated

import typer

from latloop.cli import options, output


def profile(
    device: options.DeviceName,
    space: options.SpaceName,
    networks: Annotated[int, typer.Option(help="Whole networks to measure.", min=1)] = 60,
    share: Annotated[
        float | None,
        typer.Option(
            help="Share of the space's operators to measure, in (0, 1]; the model predicts the "
            "rest. By default all of up to 100, else 0.75."
        ),
    ] = None,
    seed: options.Seed = 0,
    exhaustive: options.Exhaustive = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a space's operators, and whole networks of them, on a device.

    Stop it with Ctrl-C whenever you like: the same command goes on where it stopped.

    Example: latloop profile local --space nas_bench_macro
    """
    from latloop.journeys import profile as journey  # noqa: PLC0415  # keeps `--help` fast
    from searchspace.space import load_space  # noqa: PLC0415

    found = load_space(space)
    opened = options.workbench(device, store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        chosen = journey.default_share(found) if share is None else share
        summary = journey.profile(bench, found, networks, chosen, seed, progress)
    if as_json:
        output.print_json(
            {
                "device": device,
                "space": space,
                "n_operators": summary.n_operators,
                "n_space_operators": summary.n_space_operators,
                "n_networks": summary.n_networks,
                "n_failures": summary.n_failures,
                "utilization": summary.utilization,
                "cooling_s": summary.cooling_s,
            }
        )
        return
    if summary.utilization is not None:
        cooling = f", {summary.cooling_s:.0f} s of cooling down aside" if summary.cooling_s else ""
        output.say(
            f"{device}: kernels ran for {summary.utilization:.0%} of the time on the board{cooling}"
        )
    output.say(
        f"{device}: {summary.n_operators} of {summary.n_space_operators} operators and "
        f"{summary.n_networks} networks of {space} are measured, {summary.n_failures} visits "
        f"failed. Next: latloop fit {device}"
    )
