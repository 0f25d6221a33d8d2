"""The command `latloop`."""

from __future__ import annotations

import typer

from latloop.cli import (
    catalogue,
    deploy,
    device,
    evaluate,
    fit,
    measure,
    predict,
    profile,
    quickstart,
    report,
    run,
    search,
    table,
    verify,
)
from latloop.cli.errors import INTERRUPTED, exit_code_of

app = typer.Typer(
    help="Profile a device, learn what any network costs there, and find the best within a limit.",
    epilog="Example: latloop quickstart",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(device.app, name="device")
app.command()(quickstart.quickstart)
app.command()(profile.profile)
app.command()(fit.fit)
app.command()(predict.predict)
app.command()(measure.measure)
app.command()(run.run)
app.command()(search.search)
app.command()(deploy.deploy)
app.command()(verify.verify)
app.command()(evaluate.evaluate)
app.command()(table.table)
app.command()(report.report)
app.command()(catalogue.catalogue)


def main() -> None:
    """Run the command line; an error becomes a message and an exit code."""
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into this exit code without a word.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        typer.echo("\nstopped; what was measured is kept: run the same command to go on", err=True)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise  # a bug of ours: the traceback is what its report needs
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(code) from None
