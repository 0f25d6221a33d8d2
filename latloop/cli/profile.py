"""`latloop profile`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from latloop.cli import options, output
from latloop.cli.errors import DEVICE_TROUBLE


def profile(
    device: Annotated[
        list[str],
        typer.Argument(
            metavar="DEVICE...",
            help="Devices of the inventory; 'local' always exists. Several boards are measured at "
            "the same time.",
        ),
    ],
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

    Several boards are measured at the same time: latloop profile rpi4 rpi5 --space ofa_mbv3

    Example: latloop profile local --space nas_bench_macro
    """
    if len(device) > 1:
        arguments = _arguments(space, networks, share, seed, exhaustive=exhaustive)
        _profile_side_by_side(device, arguments, store, devices, as_json=as_json)
        return
    from latloop.journeys import profile as journey  # noqa: PLC0415  # keeps `--help` fast
    from searchspace.space import load_space  # noqa: PLC0415

    found = load_space(space)
    opened = options.workbench(device[0], store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        chosen = journey.default_share(found) if share is None else share
        summary = journey.profile(bench, found, networks, chosen, seed, progress)
    document = {
        "device": device[0],
        "space": space,
        "n_operators": summary.n_operators,
        "n_space_operators": summary.n_space_operators,
        "n_networks": summary.n_networks,
        "n_failures": summary.n_failures,
        "utilization": summary.utilization,
        "cooling_s": summary.cooling_s,
    }
    if as_json:
        output.print_json(document)
    else:
        _say(document)


def _say(document: Mapping[str, Any]) -> None:
    if document["utilization"] is not None:
        cooling_s = document["cooling_s"]
        cooling = f", {cooling_s:.0f} s of cooling down aside" if cooling_s else ""
        share = document["utilization"]
        output.say(f"{document['device']}: kernels ran for {share:.0%} of the time{cooling}")
    output.say(
        "{device}: {n_operators} of {n_space_operators} operators and {n_networks} networks of "
        "{space} are measured, {n_failures} visits failed. Next: latloop fit {device}".format(
            **document
        )
    )


def _arguments(
    space: str, networks: int, share: float | None, seed: int, *, exhaustive: bool
) -> list[str]:
    arguments = ["--space", space, "--networks", str(networks), "--seed", str(seed)]
    arguments += [] if share is None else ["--share", str(share)]
    return arguments + (["--exhaustive"] if exhaustive else [])


def _profile_side_by_side(
    names: Sequence[str],
    arguments: Sequence[str],
    store: str | None,
    devices: Path | None,
    *,
    as_json: bool,
) -> None:
    """Profile boards at the same time; one that fails holds up no other.

    With `as_json` one document: what each board's own command prints, or its error, by name.
    """
    from devices.inventory import check_side_by_side, read_inventory  # noqa: PLC0415
    from latloop.journeys.workers import work_side_by_side  # noqa: PLC0415

    inventory = read_inventory(devices or options.find_home().inventory)
    check_side_by_side([inventory.find(name) for name in names])
    shared = [*arguments, "--json"]
    shared += [] if store is None else ["--store", store]
    shared += [] if devices is None else ["--devices", str(devices)]
    with output.progress_bars() as progress:
        ended = work_side_by_side({name: ["profile", name, *shared] for name in names}, progress)
    if as_json:
        output.print_json(
            {
                name: each.document or {"exit_code": each.exit_code, "error": each.words}
                for name, each in ended.items()
            }
        )
    for name, each in ended.items():
        if each.document is None:
            output.warn(f"{name}: {each.words or f'ended with exit code {each.exit_code}'}")
        elif not as_json:
            _say(each.document)
    codes = [each.exit_code for each in ended.values() if each.exit_code]
    if codes:
        raise typer.Exit(codes[0] if codes[0] > 0 else DEVICE_TROUBLE)
