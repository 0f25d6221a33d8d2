"""`latloop table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latloop.cli import options, output


def table(
    device: options.DeviceName,
    space: options.SpaceName,
    table_format: Annotated[
        str, typer.Option("--format", help="ofa, proxyless, fbnet or csv.", metavar="FORMAT")
    ] = "csv",
    out: Annotated[
        Path | None, typer.Option("--output", help="File to write, instead of stdout.")
    ] = None,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
) -> None:
    """Write the latency table of a device that existing search codes read.

    Example: latloop table local --space ofa_mbv3 --format ofa --output lut.yaml
    """
    from latloop.tables import make_table  # noqa: PLC0415  # keeps `--help` fast
    from searchspace.space import load_space  # noqa: PLC0415

    found = load_space(space)
    with options.workbench(device, store, devices) as bench:
        model = bench.load_model()
        made = make_table(found, model.predict_operators_us, table_format, model.fixed_us, device)
    typer.echo(made.note, err=True)
    if out is None:
        output.say(made.text.rstrip("\n"))
    else:
        out.write_text(made.text)
