"""Write the report: one HTML file that works offline and asks no network."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from string import Template

from latloop.report.data import ReportData
from latloop.report.plot import load_plotly
from latloop.report.sections import (
    Section,
    show_accuracy,
    show_calls,
    show_commands,
    show_learning,
    show_predictions,
    show_quality,
)
from latloop.report.text import escape
from latloop.report.verdict import show_header


def write_report(data: ReportData, path: Path) -> None:
    """Write the page; a reader of `path` sees the old page or the whole new one.

    Raises:
        MissingPlotlyError: plotly is not installed.
        OSError: the folder does not exist or cannot be written to.
    """
    text = render_report(data)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def render_report(data: ReportData) -> str:
    """The page's text.

    Raises:
        MissingPlotlyError: plotly is not installed.
    """
    sections = (
        show_predictions(data),
        show_accuracy(data),
        show_calls(data),
        show_learning(data),
        show_quality(data),
        show_commands(data),
    )
    figures = [figure for section in sections for figure in section.figures]
    verdict = f": {data.verdict.subnet}" if data.verdict else ""
    return Template(_resource("page.html")).substitute(
        title=escape(f"Latloop on {data.device.name}{verdict}"),
        style=_resource("style.css"),
        header=show_header(data),
        sections="\n".join(_show(section) for section in sections),
        figures="\n".join(_embed(name, json) for name, json in figures),
        plotly=load_plotly("plotly.offline").get_plotlyjs() if figures else "",
        script=_resource("page.js"),
    )


def _show(section: Section) -> str:
    return f"<section><h2>{escape(section.title)}</h2>\n{section.body}</section>"


def _embed(name: str, json: str) -> str:
    """JSON inside HTML: no `<` is left that could end the script."""
    safe = json.replace("<", "\\u003c")
    return f'<script type="application/json" data-figure="{name}">{safe}</script>'


def _resource(name: str) -> str:
    return (files("latloop.report") / name).read_text(encoding="utf-8")
