"""What all figures share: colours, axes, error bars, and the way to plotly's JSON."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from latloop.report.data import Estimate
from latloop.report.text import escape_label

#: Colours that people with colour blindness tell apart (Okabe and Ito, "Color Universal Design"),
#: darkened where white paper needs it; shapes repeat what the colours say.
COLOURS: Final = ("#0072b2", "#b35000", "#00795a", "#a8447f", "#6b6b00", "#444444")
SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up", "cross", "x")
GRID: Final = "#e3e7ec"
INK: Final = "#1b2430"

Trace = dict[str, object]
Layout = dict[str, object]


class MissingPlotlyError(ImportError):
    """The report's figures need plotly: install it (`pip install plotly`) and run again."""


def load_plotly(module: str) -> ModuleType:
    """Import a part of plotly, which is heavy and optional.

    Raises:
        MissingPlotlyError: plotly is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPlotlyError("a report needs plotly: pip install plotly") from error


def to_json(traces: Sequence[Trace], layout: Layout) -> str:
    """Check a figure with plotly and write it as JSON.

    Raises:
        ValueError: plotly does not know a property.
        MissingPlotlyError: plotly is not installed.
    """
    common: Layout = {
        "template": "none",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 62, "r": 14, "t": 12, "b": 52},
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }
    figure = load_plotly("plotly.graph_objects").Figure
    return str(figure(data=list(traces), layout=common | layout).to_json())


def axis(title: str, **more: object) -> Layout:
    """An axis with its title and a light grid."""
    common: Layout = {
        "title": {"text": escape_label(title), "standoff": 8},
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#98a2ae",
        "ticks": "outside",
        "tickcolor": "#98a2ae",
        "automargin": True,
    }
    return common | more


def error_bars(estimates: Sequence[Estimate], colour: str) -> Layout:
    """Error bars from an estimate's interval; none where the interval leaves the value out."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, e.high - e.value) for e in estimates],
        "arrayminus": [max(0.0, e.value - e.low) for e in estimates],
        "color": colour,
        "thickness": 1,
        "width": 2,
    }


def log_range(values: Sequence[float]) -> tuple[float, float]:
    """A range for a log axis with a tenth to spare at both ends; values are positive."""
    return min(values) / 1.12, max(values) * 1.12


def log_ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers inside a log axis, whatever its range."""
    found: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) >= 3:
            return found
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next(s for s in (5, 2, 1) if (high - low) / (s * step) >= 2)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_axis(title: str, low: float, high: float) -> Layout:
    """A log axis that labels round numbers alone."""
    ticks = log_ticks(low, high)
    return axis(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[f"{tick:.6g}" for tick in ticks],
    )


def tolerance_band(percent: float) -> Layout:
    """A shape: the band of this half width around zero, across the whole figure."""
    return {
        "type": "rect",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": -percent,
        "y1": percent,
        "fillcolor": "rgba(0,114,178,0.10)",
        "line": {"width": 0},
        "layer": "below",
    }
