"""Arguments and options that several commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from latloop.cli.output import StageProgress
    from latloop.home import Home
    from latloop.models import Subject
    from latloop.workbench import Workbench


DeviceName = Annotated[
    str, typer.Argument(metavar="DEVICE", help="A device of the inventory; 'local' always exists.")
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="An ONNX file, module:function that returns a torch module and example inputs, "
        "SPACE:GENOME (SPACE built in or module:object), or the folder of a deployment.",
    ),
]
ModelShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1x3x224x224",
        help="Shape of an ONNX file's input, where the file leaves dimensions open; repeatable.",
    ),
]
SpaceName = Annotated[
    str,
    typer.Option("--space", help="nas_bench_macro, ofa_mbv3, or module:object.", metavar="SPACE"),
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", help="SQLAlchemy URL or SQLite file, instead of LATLOOP_HOME's."),
]
DevicesFile = Annotated[
    Path | None, typer.Option("--devices", help="Inventory file, instead of LATLOOP_HOME's.")
]
Exhaustive = Annotated[
    bool,
    typer.Option(
        "--exhaustive",
        help="Time every candidate schedule of an operator that needs tuning, not only those that "
        "are likely the fastest.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.", min=0)]
Latency = Annotated[
    str, typer.Option("--latency", metavar="T", help="The limit, with its unit: 8ms, 900us.")
]
MemoryLimitText = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="M",
        help="What the activations may take at once, with its unit: 320kB, 1.5MiB.",
    ),
]
PlanName = Annotated[
    Literal["greedy", "optimal"],  # profiler.plan.PlanMode
    typer.Option(
        "--plan",
        help="How activations are placed in memory: greedy, in milliseconds, or optimal, by "
        "integer programming in up to 30 s.",
    ),
]
AccuracyName = Annotated[
    str | None,
    typer.Option(
        "--accuracy", help="CSV of genome,accuracy or module:function, instead of the built-in."
    ),
]


def find_home() -> Home:
    """The folder of LATLOOP_HOME, or the user's data folder."""
    from latloop.home import Home, default_home  # noqa: PLC0415  # keeps `--help` fast

    chosen = os.environ.get("LATLOOP_HOME")
    return Home(Path(chosen).expanduser()) if chosen else default_home()


def workbench(
    device: str, store: str | None, devices: Path | None, *, exhaustive: bool = False
) -> AbstractContextManager[Workbench]:
    """Open a device by name, as the shared options say."""
    from latloop.workbench import open_workbench  # noqa: PLC0415  # keeps `--help` fast

    return open_workbench(
        find_home(), device, store, devices, is_exhaustive=exhaustive, ask=find_ask()
    )


def find_ask() -> Callable[[str], str] | None:
    """Asks for a password, unseen, on a terminal; without one nobody can be asked."""
    if not sys.stdin.isatty():
        return None
    return lambda question: str(typer.prompt(question, hide_input=True, err=True, prompt_suffix=""))


def resolve(
    model: str, shapes: list[str] | None, progress: StageProgress, seed: int = 0
) -> Subject:
    """Find the network that MODEL names, importing it where that is needed."""
    from latloop.models import parse_shapes, resolve_model  # noqa: PLC0415  # keeps `--help` fast

    chosen = parse_shapes(shapes or [])
    return resolve_model(model, find_home().artifacts, chosen, seed, progress)
