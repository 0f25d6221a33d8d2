"""The report's figures as plotly JSON; every function here needs plotly when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from latloop.report.data import LearningPoint, NetworkPoint, Reading, Series
from latloop.report.plot import (
    COLOURS,
    SYMBOLS,
    Layout,
    Trace,
    axis,
    error_bars,
    log_axis,
    log_range,
    to_json,
    tolerance_band,
)
from latloop.report.text import escape_label, format_estimate


def draw_predictions(networks: Sequence[NetworkPoint]) -> str:
    """Predicted over measured latency on log axes, with the identity and its 5 and 10 % bands."""
    ends = [p.measured_ms.value for p in networks] + [p.predicted_ms.value for p in networks]
    low, high = log_range(ends)
    traces = [_band(low, high, share, shade) for share, shade in ((0.10, 0.10), (0.05, 0.16))]
    traces.append(
        {
            "x": [low, high],
            "y": [low, high],
            "mode": "lines",
            "name": "predicted = measured",
            "line": {"color": "#5a6673", "width": 1.5, "dash": "dash"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    )
    families = sorted({point.family for point in networks})
    for index, family in enumerate(families):
        members = [point for point in networks if point.family == family]
        traces.append(_family(family, members, index))
    layout: Layout = {
        "xaxis": log_axis("Measured latency (ms)", low, high),
        "yaxis": log_axis("Predicted latency (ms)", low, high),
    }
    return to_json(traces, layout)


def draw_errors(networks: Sequence[NetworkPoint]) -> str:
    """Relative error of each prediction over measured latency, with the 5 and 10 % bands."""
    low, high = log_range([point.measured_ms.value for point in networks])
    errors = [_error_percent(point) for point in networks]
    reach = max(12.0, *(1.1 * abs(error) for error in errors))
    traces: list[Trace] = []
    for index, family in enumerate(sorted({point.family for point in networks})):
        members = [point for point in networks if point.family == family]
        trace = _family(family, members, index) | {"y": [_error_percent(p) for p in members]}
        traces.append({key: value for key, value in trace.items() if "error_" not in key})
    layout: Layout = {
        "xaxis": log_axis("Measured latency (ms)", low, high),
        "yaxis": axis("Predicted over measured, minus 1 (%)", range=[-reach, reach], zeroline=True),
        "shapes": [tolerance_band(percent) for percent in (10.0, 5.0)],
        "showlegend": True,
    }
    return to_json(traces, layout)


def _error_percent(point: NetworkPoint) -> float:
    return 100 * (point.predicted_ms.value / point.measured_ms.value - 1)


def _band(low: float, high: float, share: float, shade: float) -> Trace:
    above, below = 1 + share, 1 - share
    return {
        "x": [low, high, high, low],
        "y": [low * above, high * above, high * below, low * below],
        "fill": "toself",
        "mode": "lines",
        "line": {"width": 0},
        "fillcolor": f"rgba(0,114,178,{shade})",
        "name": f"±{100 * share:.0f} %",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _family(family: str, members: Sequence[NetworkPoint], index: int) -> Trace:
    colour = COLOURS[index % len(COLOURS)]
    faint = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:], 16)},0.45)"
    return {
        "x": [point.measured_ms.value for point in members],
        "y": [point.predicted_ms.value for point in members],
        "error_x": error_bars([point.measured_ms for point in members], faint),
        "error_y": error_bars([point.predicted_ms for point in members], faint),
        "mode": "markers",
        "name": escape_label(family),
        "marker": {"color": colour, "symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
        "text": [_describe(point) for point in members],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _describe(point: NetworkPoint) -> str:
    return (
        f"<b>{escape_label(point.name)}</b>"
        f"<br>predicted {format_estimate(point.predicted_ms, 'ms')}"
        f"<br>measured {format_estimate(point.measured_ms, 'ms')}"
        f"<br>error {_error_percent(point):+.1f} %"
    )


def draw_learning(points: Sequence[LearningPoint]) -> str:
    """Median error over the number of measured networks, with its interval."""
    errors = [point.median_ape_percent for point in points]
    trace: Trace = {
        "x": [point.n_networks for point in points],
        "y": [error.value for error in errors],
        "error_y": error_bars(errors, COLOURS[0]) | {"thickness": 1.5, "width": 5},
        "mode": "lines+markers",
        "line": {"color": COLOURS[0], "width": 2},
        "marker": {"color": COLOURS[0], "size": 8},
        "text": [
            f"{point.n_networks} networks, {point.n_operators} operators<br>median error "
            f"{format_estimate(point.median_ape_percent, '%', 3)}"
            for point in points
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    layout: Layout = {
        "xaxis": axis("Whole networks measured", rangemode="tozero"),
        "yaxis": axis("Median absolute error (%)", rangemode="tozero"),
    }
    return to_json([trace], layout)


def draw_canary(readings: Sequence[Reading], tolerance_percent: float) -> str:
    """How far the unchanging kernel was from its median, over time, with the tolerated band."""
    middle = median(reading.value for reading in readings)
    deviations = [100 * (reading.value / middle - 1) for reading in readings]
    reach = max(2 * tolerance_percent, *(1.1 * abs(deviation) for deviation in deviations))
    layout: Layout = {
        "xaxis": axis("Minutes since the first measurement"),
        "yaxis": axis("Canary, off its median (%)", range=[-reach, reach], nticks=6),
        "shapes": [tolerance_band(tolerance_percent)],
    }
    minutes = [reading.minutes for reading in readings]
    return to_json([_over_time(minutes, deviations, "%")], layout)


def draw_condition(series: Series) -> str:
    """A condition of the device over time, from zero."""
    label = f"{series.name} ({series.unit})" if series.unit else series.name
    layout: Layout = {
        "xaxis": axis("Minutes since the first measurement"),
        "yaxis": axis(label, rangemode="tozero", nticks=5),
    }
    minutes = [reading.minutes for reading in series.readings]
    values = [reading.value for reading in series.readings]
    return to_json([_over_time(minutes, values, series.unit)], layout)


def _over_time(minutes: Sequence[float], values: Sequence[float], unit: str) -> Trace:
    return {
        "x": list(minutes),
        "y": list(values),
        "mode": "markers" if len(values) > 60 else "lines+markers",
        "marker": {"color": COLOURS[0], "size": 4},
        "line": {"color": COLOURS[0], "width": 1},
        "hovertemplate": f"%{{x:.1f}} min: %{{y:.4g}} {escape_label(unit)}<extra></extra>",
        "showlegend": False,
    }
