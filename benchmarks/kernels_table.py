"""docs/kernels.md and its pictures, from raw figures of `kernels.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from page import GREEN, RED, Bar, bar_chart, device_line

Row = dict[str, Any]

_HEAD = """# Kernels beside ONNX Runtime's

Made by `python benchmarks/kernels.py`, of several threads with `--threads`; float32, subnormals
flushed on both sides.

Both take the same ONNX file, have as many threads, pinned to the same cores, and are timed in turn
in one run. The ratio is the median over the rounds of ours over ONNX Runtime's, below 1 where ours
is faster; its quartiles are in brackets.
"""
_SECTION = """
## {title}

{device}; {n_rounds} rounds; {version}.
Raw figures in `benchmarks/results/{file}`.

![Ratio of each network's latency to ONNX Runtime's, {title}]({picture})

"""


def results_name(threads: int) -> str:
    """What files of raw figures begin with."""
    return "kernels" if threads == 1 else f"kernels-{threads}-threads"


def newest_figures(folder: Path, board: str) -> dict[int, Path]:
    """The newest raw figures of a board, by the number of threads."""
    pattern = re.compile(rf"kernels-(?:(\d+)-threads-)?\d{{4}}-\d\d-\d\d-{board}\.json")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if match := pattern.fullmatch(path.name):
            found[int(match[1] or 1)] = path
    return dict(sorted(found.items()))


def write_page(figures: Mapping[int, Path], docs: Path) -> None:
    """Write the page and a picture for each file of raw figures, given by its threads."""
    page = _HEAD
    for threads, source in figures.items():
        document = json.loads(source.read_text())
        picture = f"{results_name(threads)}.svg"
        page += _section(threads, source.name, document, picture)
        bars = [
            Bar(r["name"], r["ratio"], GREEN if r["ratio"] <= 1 else RED)
            for r in document["figures"]
        ]
        (docs / picture).write_text(bar_chart(bars, "ONNX Runtime"))
    (docs / "kernels.md").write_text(page)


def _section(threads: int, file: str, document: dict[str, Any], picture: str) -> str:
    rows: list[Row] = document["figures"]
    versions = sorted({row["ort_version"] for row in rows if "ort_version" in row})
    head = _SECTION.format(
        title="One thread" if threads == 1 else f"{threads} threads",
        device=device_line(document),
        n_rounds=len(rows[0]["own_us"]),
        version=" ".join(["ONNX Runtime", *versions]),
        file=file,
        picture=picture,
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
    return head + "\n".join([*lines, "", *means]) + "\n"


def geometric_mean(rows: list[Row], group: str) -> float:
    """Of the ratios of a group."""
    return float(np.exp(np.mean([np.log(row["ratio"]) for row in rows if row["group"] == group])))
