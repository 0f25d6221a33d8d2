"""What commands print: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from latloop.journeys.deploy import Verdict
    from profiler.plan import ArenaPlan
    from profiler.sessions import NetworkMeasurement

StageProgress = Callable[[str, int, int], None]


def print_json(document: object) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.write(json.dumps(document, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print a line for a person on stdout."""
    sys.stdout.write(text + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal."""
    from rich.console import Console  # noqa: PLC0415  # keeps `--help` fast
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@contextmanager
def progress_bars() -> Iterator[StageProgress]:
    """Bars with the time left on stderr, one for each stage; lines where it is no terminal.

    Messages, which have nothing to count, are lines in either case.
    """
    if not sys.stderr.isatty():
        yield progress_lines()
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _update(bars)


def _update(bars: Progress) -> StageProgress:
    tasks: dict[str, TaskID] = {}
    finished: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        if total == 0:
            bars.console.print(stage, markup=False, highlight=False)
            return
        if stage in finished and done < total:  # the same stage of the next part of the work
            finished.discard(stage)
            bars.reset(tasks[stage])
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)
        if done >= total:
            finished.add(stage)

    return report


def progress_lines() -> StageProgress:
    """A line at each tenth of a stage, and each message, for logs."""
    last: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        if total == 0:
            sys.stderr.write(f"{stage}\n")
            sys.stderr.flush()
            return
        tenth = 10 * done // total
        if last.get(stage) != tenth:
            last[stage] = tenth
            sys.stderr.write(f"{stage}: {done}/{total}\n")
            sys.stderr.flush()

    return report


def interval(value: float, low: float, high: float, unit: str) -> str:
    """A number with its interval and unit, such as `2.31 [2.28, 2.35] ms`."""
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] {unit}"


def measured_json(measurement: NetworkMeasurement) -> dict[str, object]:
    """The keys of a measured network that programs rely on."""
    return {
        "latency_ms": measurement.latency_us / 1e3,
        "low_ms": measurement.low_us / 1e3,
        "high_ms": measurement.high_us / 1e3,
        "confidence": measurement.confidence,
        "sessions": len(measurement.session_us),
        "flags": list(measurement.flags),
    }


def plan_json(plan: ArenaPlan) -> dict[str, object]:
    """The keys of a memory plan that programs rely on."""
    return {"peak_activation_bytes": plan.arena_bytes, "plan_is_optimal": plan.is_optimal}


def describe_memory(arena_bytes: int, *, is_optimal: bool) -> str:
    """What activations take, and whether that is known to be the least."""
    proof = "the least for" if is_optimal else "not proved the least for"
    return f"{arena_bytes / 1e6:.2f} MB of activations at the peak ({proof} its order of calls)"


def print_verdict(verdict: Verdict, device: str, *, as_json: bool) -> None:
    """Print what a deployment does on its device."""
    measured, outputs = verdict.measurement, verdict.outputs
    limit_ms = None if verdict.limit_us is None else verdict.limit_us / 1e3
    if as_json:
        print_json(
            {
                "device": device,
                "network": verdict.deployment.network,
                "folder": str(verdict.deployment.folder),
                "measured_ms": measured.latency_us / 1e3,
                "measured_low_ms": measured.low_us / 1e3,
                "measured_high_ms": measured.high_us / 1e3,
                "limit_ms": limit_ms,
                "meets_limit": verdict.meets_limit,
                "max_output_error": outputs.max_error,
                "min_output_difference": outputs.min_difference,
                "outputs_agree": outputs.passes,
                **measured_json(measured),
            }
        )
        return
    low, high = measured.low_us / 1e3, measured.high_us / 1e3
    rows = [
        ("network", verdict.deployment.network),
        ("folder", str(verdict.deployment.folder)),
        ("measured", interval(measured.latency_us / 1e3, low, high, "ms")),
        ("limit", "none given" if limit_ms is None else f"{limit_ms:.2f} ms"),
        ("meets the limit", {None: "-", True: "yes", False: "no"}[verdict.meets_limit]),
        ("outputs agree", f"{'yes' if outputs.passes else 'no'}, error {outputs.max_error:.1e}"),
    ]
    print_table("", ("", "result"), rows)
