"""`latloop device`: which devices there are, and whether one is fit to measure on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from latloop.cli import board, options, output
from latloop.cli.errors import ANSWER_IS_NO

if TYPE_CHECKING:
    from devices.board import Board
    from latloop.journeys.check import DeviceCheck

app = typer.Typer(
    help="List devices, enroll boards, and check whether a device is fit to measure on.",
    no_args_is_help=True,
)
app.command()(board.enroll)
app.command()(board.calibrate)
app.command()(board.steal)


@app.command("list")
def list_devices(devices: options.DevicesFile = None, as_json: options.AsJson = False) -> None:
    """List the devices of the inventory.

    Example: latloop device list
    """
    from devices.inventory import read_inventory  # noqa: PLC0415  # keeps `--help` fast

    inventory = read_inventory(devices or options.find_home().inventory)
    if as_json:
        output.print_json([asdict(entry) for entry in inventory.entries])
        return
    rows = [
        (e.name, f"{e.transport} {e.host}".strip(), e.runtime, str(e.threads), e.notes)
        for e in inventory.entries
    ]
    output.print_table("devices", ("name", "transport", "runtime", "threads", "notes"), rows)


@app.command("check")
def check_device(
    device: options.DeviceName,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Say whether a device is fit to measure on now, and what to mend.

    Example: latloop device check local
    """
    from latloop.journeys.check import check  # noqa: PLC0415  # keeps `--help` fast

    with options.workbench(device, store, devices) as bench, output.progress_bars() as progress:
        result = check(bench, progress)
        fingerprint = bench.fingerprint
    if as_json:
        output.print_json(
            {
                "device": device,
                "device_id": fingerprint.device_id,
                "board": asdict(fingerprint.board),
                "runtime": asdict(fingerprint.runtime),
                "tick_ns": result.tick_ns,
                "is_fit": result.health.is_fit,
                "findings": [asdict(finding) for finding in result.health.findings],
                "clusters": [asdict(cluster) for cluster in result.clusters],
                "governors": {str(core): name for core, name in result.governors.items()},
                "sensors": [asdict(sensor) for sensor in result.sensors],
                "was_quarantined": result.was_quarantined,
                "barred": list(result.barred),
            }
        )
    else:
        _print_check(device, fingerprint.board, result)
    if not result.health.is_fit:
        raise typer.Exit(ANSWER_IS_NO)


def _print_check(device: str, board: Board, result: DeviceCheck) -> None:
    output.say(
        f"{device}: {board.cpu_model}, {board.architecture}, {board.n_cores} cores, "
        f"{board.memory_bytes / 2**30:.1f} GiB, clock resolution {result.tick_ns} ns"
    )
    if result.login:
        output.say("".join(f"    {cluster}\n" for cluster in result.clusters).rstrip("\n"))
    findings = result.health.findings
    if result.login and findings:
        output.say(f"commands are to be typed on the board ({result.login}):")
    for finding in findings:
        output.say(f"{finding.severity}: {finding.text}\n    {finding.remedy}")
    for subject in result.barred:
        output.say(f"not run again, as it took the board down twice: {subject}")
    if result.was_quarantined:
        now = "no longer" if result.health.is_fit else "still"
        output.say(f"{now} in quarantine, where it was because it {result.was_quarantined}")
    output.say("fit to measure on" if result.health.is_fit else "NOT fit to measure on")
