"""`latloop report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latloop.cli import options, output


def report(
    device: options.DeviceName,
    out: Annotated[Path, typer.Option("--output", help="The HTML file to write.")] = Path(
        "latloop-report.html"
    ),
    folder: Annotated[
        Path | None, typer.Option(help="The deployment to show; by default the newest search's.")
    ] = None,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Write one self-contained HTML page on a device, its model and what was found.

    Example: latloop report local --output report.html
    """
    from latloop.journeys.report import gather_report  # noqa: PLC0415  # keeps `--help` fast
    from latloop.report import write_report  # noqa: PLC0415

    with options.workbench(device, store, devices) as bench:
        write_report(gather_report(bench, folder), out)
    if as_json:
        output.print_json({"device": device, "report": str(out.resolve())})
    else:
        output.say(f"the report is in {out.resolve()}")
