"""`latloop evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from latloop.cli import options, output

if TYPE_CHECKING:
    from costmodel.evaluate import Evaluation
    from costmodel.shift import Shift
    from latloop.journeys.evaluate import Judgement


def evaluate(
    device: options.DeviceName,
    space: Annotated[
        list[str] | None,
        typer.Option("--space", metavar="SPACE", help="May be repeated; by default all profiled."),
    ] = None,
    networks: Annotated[int, typer.Option(help="Fresh networks of each space.", min=2)] = 40,
    exhaustive: options.Exhaustive = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure networks that nobody measured before, and judge what the model says of them.

    Three baselines, fitted to the same data, are judged beside it. Some networks that the model
    learned from are measured once more, and tell whether the device is as it was.

    Example: latloop evaluate local
    """
    from latloop.journeys import evaluate as journey  # noqa: PLC0415  # keeps `--help` fast
    from searchspace.space import load_space  # noqa: PLC0415

    opened = options.workbench(device, store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        names = space or journey.profiled_spaces(bench)
        spaces = [load_space(name) for name in names]
        judgement = journey.evaluate(bench, spaces, networks, progress)
        journey.keep(judgement, bench.home.evaluation(bench.device_id))
    if as_json:
        output.print_json(journey.describe(judgement))
        return
    show(judgement, device)


def show(judgement: Judgement, device: str) -> None:
    """Print an evaluation for a person."""
    _print(judgement.evaluation)
    for family, shift in judgement.shifts:
        _print_shift(family, shift, device)


def _print(evaluation: Evaluation) -> None:
    columns = ("networks", "by", "n", "median APE %", "<5 %", "<10 %", "in 95 % interval", "rank")
    rows = []
    for name, families in (("latloop", evaluation.families), *evaluation.baselines):
        for family, e in families:
            rank = "-" if e.spearman is None else f"{e.spearman:.3f}"
            median = (
                f"{e.median_ape_percent:.2f} "
                f"[{e.median_ape_low_percent:.2f}, {e.median_ape_high_percent:.2f}]"
            )
            within = (f"{e.within_5_percent:.0f} %", f"{e.within_10_percent:.0f} %")
            coverage = f"{e.coverage_percent:.0f} %"
            rows.append((family, name, str(e.n_networks), median, *within, coverage, rank))
    output.print_table("predicted against measured", columns, sorted(rows, key=lambda r: r[0]))


def _print_shift(family: str, shift: Shift, device: str) -> None:
    change = f"{shift.median_percent:+.1f} [{shift.low_percent:+.1f}, {shift.high_percent:+.1f}] %"
    output.say(
        f"{family}: {shift.n_networks} networks that the model knows, now against then: {change}"
    )
    if shift.is_notable:
        output.warn(
            f"{device} is not as it was when it was profiled, and these errors contain that; if "
            f"it stays so, run `latloop profile {device} --space {family}` with another `--seed`, "
            f"then `latloop fit {device}`"
        )
