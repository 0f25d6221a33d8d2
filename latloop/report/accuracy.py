"""Accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from latloop.report.data import SubnetPoint, Verdict
from latloop.report.plot import COLOURS, Layout, Trace, axis, error_bars, to_json
from latloop.report.text import escape_label, format_estimate, format_number

LIMIT_COLOUR: Final = "#b00020"
CHOSEN_COLOUR: Final = "#b35000"
#: More points than this are thinned: a page must open at once on a phone.
MAX_POINTS: Final = 4000


def thin(points: Sequence[SubnetPoint], n_most: int = MAX_POINTS) -> Sequence[SubnetPoint]:
    """Every k-th point in order of latency, so that at most `n_most` are left."""
    step = -(-len(points) // n_most) if points else 1
    return sorted(points, key=lambda point: point.latency_ms)[::step] if step > 1 else points


def draw_accuracy(
    subnets: Sequence[SubnetPoint], front: Sequence[SubnetPoint], verdict: Verdict | None
) -> str:
    """Accuracy over latency: all subnets, the front, the limit and the chosen one."""
    traces: list[Trace] = []
    if subnets:
        marker = {"color": "#7d8b9a", "size": 4, "opacity": 0.45}
        traces.append(_subnets(thin(subnets), "other subnets", "markers", {"marker": marker}))
    if front:
        style: Layout = {
            "line": {"color": COLOURS[0], "width": 2, "shape": "hv"},
            "marker": {"color": COLOURS[0], "size": 5},
        }
        mode = "lines+markers" if len(front) > 1 else "markers"
        traces.append(_subnets(front, "best at each latency", mode, style))
    layout: Layout = {
        "xaxis": axis("Latency (ms)", rangemode="normal"),
        "yaxis": axis("Accuracy (%)"),
    }
    if verdict is not None:
        traces += _chosen(verdict)
        layout |= _limit_line(verdict, [*subnets, *front])
    return to_json(traces, layout)


def _subnets(points: Sequence[SubnetPoint], name: str, mode: str, style: Layout) -> Trace:
    common: Trace = {
        "x": [point.latency_ms for point in points],
        "y": [point.accuracy_percent for point in points],
        "mode": mode,
        "name": name,
        "text": [
            f"<b>{escape_label(point.subnet)}</b><br>predicted "
            f"{format_number(point.latency_ms)} ms<br>{point.accuracy_percent:.2f} %"
            for point in points
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }
    return common | style


def _chosen(verdict: Verdict) -> list[Trace]:
    is_measured = verdict.measured_ms is not None
    latency = verdict.measured_ms or verdict.predicted_ms
    name = "chosen, measured" if is_measured else "chosen, predicted"
    error = verdict.accuracy_error_percent
    trace: Trace = {
        "x": [latency.value],
        "y": [verdict.accuracy_percent],
        "error_x": error_bars([latency], CHOSEN_COLOUR) | {"thickness": 2, "width": 6},
        "mode": "markers",
        "name": name,
        "marker": {"color": CHOSEN_COLOUR, "symbol": "star", "size": 16},
        "text": [
            f"<b>{escape_label(verdict.subnet)}</b><br>{name[8:]} "
            f"{format_estimate(latency, 'ms')}<br>{verdict.accuracy_percent:.2f} %"
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }
    if error is not None:
        trace["error_y"] = {
            "type": "data",
            "array": [error],
            "color": CHOSEN_COLOUR,
            "thickness": 2,
            "width": 6,
        }
    return [trace]


def _limit_line(verdict: Verdict, points: Sequence[SubnetPoint]) -> Layout:
    """The limit as a vertical line, its label on the side where there is room."""
    ends = [point.latency_ms for point in points] or [verdict.limit_ms]
    is_right = verdict.limit_ms > (min(ends) + max(ends)) / 2
    line = {"color": LIMIT_COLOUR, "width": 2, "dash": "dot"}
    return {
        "shapes": [
            {
                "type": "line",
                "x0": verdict.limit_ms,
                "x1": verdict.limit_ms,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": line,
            }
        ],
        "annotations": [
            {
                "x": verdict.limit_ms,
                "y": 0.02,
                "yref": "paper",
                "yanchor": "bottom",
                "xanchor": "right" if is_right else "left",
                "xshift": -4 if is_right else 4,
                "showarrow": False,
                "bgcolor": "rgba(255,255,255,0.8)",
                "text": f"limit {format_number(verdict.limit_ms)} ms",
                "font": {"color": LIMIT_COLOUR},
            }
        ],
    }
