"""docs/models.md, from raw figures of `models.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from page import device_line

Row = dict[str, Any]

_HEAD = """# Networks that were tried

Made by `python benchmarks/models.py`; raw figures in `benchmarks/results/{file}`.
{device}, one thread.

- **calls**: kernels of the program. **import**: seconds from the file or module to operators, in a
  fresh process, the import of the compiler included.
- **error**: largest difference of the program's outputs from ONNX Runtime's (files) or torch's
  (modules) over the largest output, on three inputs.
- **predicted**: by a model that knows the operators, but not the whole latency of this network and
  of a fifth of the others. **before**: by a model that had seen
  nas_bench_macro alone, with how many of the operators it had never seen. Both with 95 % intervals.
- **measured**: median over spaced sessions with its 95 % interval.
- **generic**: share of the program's time in operators that Latloop has no schedule of its own for.
- **arena**: memory of the activations, and over the most that is live at once.
- **program/calls**: the whole program over the sum of its calls between timestamps, both means of
  a visit; the median of the visits.

"""


def write_table(source: Path, target: Path) -> None:
    """Write the page for one file of raw figures."""
    document = json.loads(source.read_text())
    rows: list[Row] = document["figures"]
    text = _HEAD.format(file=source.name, device=device_line(document))
    columns = {
        "network": lambda r: r["name"],
        "source": lambda r: r["source"],
        "calls": lambda r: str(r["n_calls"]),
        "import": lambda r: f"{r['import_s']:.1f} s",
        "error": lambda r: f"{r['max_output_error']:.0e}",
        "predicted ms": lambda r: _interval(r["predicted_us"]),
        "measured ms": lambda r: _interval(r["measured_us"]),
        "before ms": lambda r: (
            f"{_interval(r['before_us'])}, {r['n_unseen_before']} of {r['n_operators']} unseen"
        ),
        "generic": lambda r: f"{100 * _generic_us(r) / _total_us(r):.1f} %",
        "arena": lambda r: (
            f"{r['arena_bytes'] / 1e6:.2f} MB, {r['arena_bytes'] / r['peak_live_bytes']:.3f}"
        ),
        "program/calls": lambda r: f"{r['program_over_calls']:.3f}",
    }
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row) for cell in columns.values()) + " |" for row in rows]
    target.write_text(text + "\n".join(lines) + "\n\n" + _summary(rows))


def _summary(rows: list[Row]) -> str:
    generic = sum(map(_generic_us, rows)) / sum(map(_total_us, rows))
    tight = sum(r["arena_bytes"] <= 1.02 * r["peak_live_bytes"] for r in rows) / len(rows)
    planned = [r for r in rows if "is_optimal" in r]
    proved = sum(
        r["is_optimal"] or r["optimal_arena_bytes"] == r["optimal_peak_live_bytes"] for r in planned
    )
    errors = [abs(r["predicted_us"][0] / r["median_us"] - 1) for r in rows]
    inside = [r["predicted_us"][1] <= r["median_us"] <= r["predicted_us"][2] for r in rows]
    before = [r["before_us"][1] <= r["median_us"] <= r["before_us"][2] for r in rows]
    slowest = max(rows, key=lambda r: r["program_over_calls"])
    return "\n".join([
        f"- Outputs agree within 1e-3 on {sum(r['outputs_agree'] for r in rows)} of {len(rows)}.",
        f"- Generic operators take {100 * generic:.1f} % of the time summed over all networks.",
        f"- The greedy arena is at most 1.02 of the largest live sum on {100 * tight:.0f} %; with "
        f"`--plan optimal`, {proved} of {len(planned)} networks of up to 150 tensors are equal to "
        f"it or proved optimal, the slowest in {max(r['optimal_s'] for r in planned):.1f} s.",
        f"- Median error of the predictions {100 * sorted(errors)[len(errors) // 2]:.1f} %; "
        f"{sum(inside)} of {len(rows)} inside their interval, before measuring any of their "
        f"operators {sum(before)} of {len(rows)}.",
        f"- Slowest import: {max(r['import_s'] for r in rows):.1f} s.",
        f"- Program over calls: at most {slowest['program_over_calls']:.3f} ({slowest['name']}).",
    ]) + "\n"  # fmt: skip


def _generic_us(row: Row) -> float:
    return float(row["kind_us"].get("generic", 0.0))


def _total_us(row: Row) -> float:
    return float(sum(row["kind_us"].values()))


def _interval(bounds_us: list[float]) -> str:
    value, low, high = (us / 1e3 for us in bounds_us)
    digits = 3 if value < 1 else 2 if value < 10 else 1
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
