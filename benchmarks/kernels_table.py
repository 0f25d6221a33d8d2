"""docs/kernels.md and its picture, from raw figures of `kernels.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from page import GREEN, RED, Bar, bar_chart, device_line

Row = dict[str, Any]

_HEAD = """# Kernels beside ONNX Runtime's

Made by `python benchmarks/kernels.py`; raw figures in `benchmarks/results/{file}`.
{device}, one thread, float32, subnormals flushed on both sides.

Both take the same ONNX file and are timed in turn in one run. The ratio is the median over
{n_rounds} rounds of ours over ONNX Runtime's, below 1 where ours is faster; its quartiles are in
brackets. ONNX Runtime {version}.

![Ratio of each network's latency to ONNX Runtime's](kernels.svg)

"""


def write_page(source: Path, docs: Path, version: str) -> None:
    """Write the page and the picture for one file of raw figures."""
    document = json.loads(source.read_text())
    rows: list[Row] = document["figures"]
    head = _HEAD.format(
        file=source.name,
        device=device_line(document),
        n_rounds=len(rows[0]["own_us"]),
        version=version,
    )
    lines = ["| network | Latloop ms | ONNX Runtime ms | ratio |", "|---|---|---|---|"]
    for row in rows:
        low, high = row["ratio_quartiles"]
        own_ms, ort_ms = (float(np.median(row[side])) / 1e3 for side in ("own_us", "ort_us"))
        lines.append(
            f"| {row['name']} | {own_ms:.3g} | {ort_ms:.3g} "
            f"| {row['ratio']:.3f} [{low:.3f}, {high:.3f}] |"
        )
    means = [
        f"- {group}: geometric mean {geometric_mean(rows, group):.3f}"
        for group in dict.fromkeys(row["group"] for row in rows)
    ]
    (docs / "kernels.md").write_text("\n".join([head + lines[0], *lines[1:], "", *means]) + "\n")
    bars = [Bar(r["name"], r["ratio"], GREEN if r["ratio"] <= 1 else RED) for r in rows]
    (docs / "kernels.svg").write_text(bar_chart(bars, "ONNX Runtime"))


def geometric_mean(rows: list[Row], group: str) -> float:
    """Of the ratios of a group."""
    return float(np.exp(np.mean([np.log(row["ratio"]) for row in rows if row["group"] == group])))
