"""docs/kernels.md and its picture, from raw figures of `kernels.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

_HEAD = """# Kernels beside ONNX Runtime's

Made by `python benchmarks/kernels.py`; raw figures in `benchmarks/results/{file}`.
{device}, {date}, one thread, float32, subnormals flushed on both sides.

Both take the same ONNX file and are timed in turn in one run. The ratio is the median over
{n_rounds} rounds of ours over ONNX Runtime's, below 1 where ours is faster; its quartiles are in
brackets. ONNX Runtime {version}.

![Ratio of each network's latency to ONNX Runtime's](kernels.svg)

"""
_WIDTH, _ROW, _LEFT, _SCALE = 720, 24, 220, 300


def write_page(source: Path, docs: Path, version: str) -> None:
    """Write the page and the picture for one file of raw figures."""
    document = json.loads(source.read_text())
    rows: list[Row] = document["figures"]
    board = document["board"]
    head = _HEAD.format(
        file=source.name,
        device=f"{board['n_cores']}-core {board['cpu_model']} virtual machine",
        date=document["made_at"][:10],
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
    (docs / "kernels.svg").write_text(_picture(rows))


def geometric_mean(rows: list[Row], group: str) -> float:
    """Of the ratios of a group."""
    return float(np.exp(np.mean([np.log(row["ratio"]) for row in rows if row["group"] == group])))


def _picture(rows: list[Row]) -> str:
    height = _ROW * (len(rows) + 2)
    one = _LEFT + _SCALE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{one}" y="15" text-anchor="middle">ONNX Runtime</text>',
    ]
    for index, row in enumerate(rows):
        top = _ROW * (index + 1)
        color = "#2a7f62" if row["ratio"] <= 1 else "#b5532c"
        parts += [
            f'<text x="{_LEFT - 8}" y="{top + 16}" text-anchor="end">{row["name"]}</text>',
            f'<rect x="{_LEFT}" y="{top + 4}" width="{_SCALE * row["ratio"]:.0f}" height="16" '
            f'fill="{color}"/>',
            f'<text x="{_LEFT + _SCALE * row["ratio"] + 6:.0f}" y="{top + 16}">'
            f"{row['ratio']:.2f}</text>",
        ]
    parts.append(
        f'<line x1="{one}" y1="20" x2="{one}" y2="{height - _ROW // 2}" stroke="black" '
        'stroke-dasharray="4 3"/></svg>'
    )
    return "\n".join(parts) + "\n"
