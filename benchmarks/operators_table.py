"""docs/operators.md and its picture, from raw figures of `operators.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from operator_verdicts import ratio, roofline_us, share, their_share, tuning_s, verdicts
from page import GREEN, GREY, Bar, bar_chart, device_line

Row = dict[str, Any]

_HEAD = """# Operators beside MetaSchedule and the roofline

Made by `python benchmarks/operators.py`; raw figures in `benchmarks/results/{file}`.
{device}, one thread, float32.

- **roofline**: the least latency that the core allows: operations (none on a padding's zeros) at
  its peak or bytes at its bandwidth, whatever takes longer. The peak is that of vector
  multiply-adds in registers, {peak:.0f} GFLOP/s in the median; the bandwidth that of adding up a
  buffer as large as the operator's input, weights and output, from whatever cache it fits. Both
  are kernels in the same executable, timed in turn with the operator's own. **share**: the
  roofline over the latency, the median over {n_rounds} rounds. A matrix-vector product is
  measured by the bandwidth alone.
- **MetaSchedule**: TVM's tuner with {n_trials} trials and its evolutionary search, on the same
  computation with its epilogue, as a matrix product where it is one, weights laid out as it likes
  before the clock starts. Its best kernel is linked beside ours and timed in turn by our runner.
  **ratio**: ours over its latency, below 1 where ours is faster.
- **tuned**: seconds from nothing compiled and nothing measured to a choice, the toolchain warm:
  the runner is built, another operator was tuned before, and imports are not counted on either
  side (our compiler process takes {start_s:.1f} s to start, MetaSchedule's half a minute).

"""
_PICTURE = "![Share of the roofline, ours and MetaSchedule's](operators.svg)\n\n"


def write_page(source: Path, docs: Path) -> None:
    """Write the page and the picture for one file of raw figures."""
    document = json.loads(source.read_text())
    figures = document["figures"]
    eight: list[Row] = figures["eight"]
    head = _HEAD.format(
        file=source.name,
        device=device_line(document),
        peak=np.median([peak_gflops(row) for row in eight]),
        n_rounds=len(eight[0]["own_us"]),
        n_trials=eight[0]["theirs"]["n_trials"],
        start_s=np.median([row["own"]["start_s"] for row in eight]),
    )
    lines = [*_eight(eight), "", *_more(figures["more"]), "", *verdicts(figures)]
    (docs / "operators.md").write_text(head + _PICTURE + "\n".join(lines) + "\n")
    (docs / "operators.svg").write_text(bar_chart(_bars(eight), "roofline"))


def peak_gflops(row: Row) -> float:
    """Of the core while this operator was measured."""
    return float(row["peak_flops"] / np.median(row["peak_us"]) / 1e3)


def bound(row: Row) -> str:
    """What the roofline is made of."""
    arithmetic_us = row["n_flops"] / row["peak_flops"] * np.median(row["peak_us"])
    return "memory" if np.median(roofline_us(row)) > 1.001 * arithmetic_us else "peak"


def _eight(rows: list[Row]) -> list[str]:
    lines = [
        "| operator | bound by | Latloop us | GFLOP/s | share | MetaSchedule us | ratio "
        "| tuned s | MetaSchedule s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        their_us = float(np.median(row["their_us"]))
        lines.append(
            f"| {row['name']} | {bound(row)} | {_cells(row)} | {their_us:.1f} | {ratio(row):.3f} "
            f"| {tuning_s(row):.2f} | {row['theirs']['seconds']:.0f} |"
        )
    return lines


def _more(rows: list[Row]) -> list[str]:
    lines = ["| operator | bound by | Latloop us | GFLOP/s | share |", "|---|---|---|---|---|"]
    return [*lines, *(f"| {row['name']} | {bound(row)} | {_cells(row)} |" for row in rows)]


def _cells(row: Row) -> str:
    own_us = float(np.median(row["own_us"]))
    return f"{own_us:.1f} | {row['n_flops'] / own_us / 1e3:.0f} | {share(row):.3f}"


def _bars(rows: list[Row]) -> list[Bar]:
    bars = []
    for row in rows:
        bars.append(Bar(row["name"], share(row), GREEN))
        bars.append(Bar("MetaSchedule", their_share(row), GREY))
    return bars
