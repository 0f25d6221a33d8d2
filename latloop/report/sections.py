"""The parts of the page below the verdict; each says how to get it where it was not done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from latloop.report.accuracy import MAX_POINTS, draw_accuracy
from latloop.report.data import CallTime, DeviceQuality, Estimate, FamilyShift, ReportData
from latloop.report.figures import (
    draw_canary,
    draw_condition,
    draw_errors,
    draw_learning,
    draw_predictions,
)
from latloop.report.text import (
    escape,
    format_estimate,
    format_number,
    format_percent,
    format_table,
)
from latloop.report.verdict import show_missing

#: A canary further than this from its median marks the measurements around it.
CANARY_TOLERANCE_PERCENT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its HTML and the figures whose places are in it."""

    title: str
    body: str
    figures: tuple[tuple[str, str], ...] = ()


def _place(name: str, label: str, size: str = "") -> str:
    return f'<div class="figure {size}" id="{name}" role="img" aria-label="{escape(label)}"></div>'


def show_predictions(data: ReportData) -> Section:
    """Predicted against measured, and the errors by family and predictor."""
    title = "Predicted against measured"
    command = f"latloop evaluate {data.device.name}"
    if not data.networks and not data.families:
        return Section(title, show_missing("The model was not judged on new networks.", command))
    rows = [
        (
            row.family,
            row.predictor,
            str(row.n_networks),
            format_estimate(row.median_ape_percent, "%", 3),
            format_percent(row.within_5_percent),
            format_percent(row.within_10_percent),
            format_percent(row.coverage_percent),
            f"± {format_percent(row.half_width_percent)}",
        )
        for row in data.families
    ]
    headings = ("Networks", "Predictor", "n", "Median error", "Within 5 %", "Within 10 %")
    table = format_table((*headings, "In interval", "Half width"), rows) if rows else ""
    note = (
        "<p>Networks that the model never saw. Bars are 95 % intervals; the dashed line is a "
        "perfect prediction, the bands are 5 and 10 % around it.</p>"
    )
    table += "".join(map(_show_shift, data.shifts))
    if not data.networks:
        return Section(title, table)
    places = (
        _place("predictions", "Predicted over measured latency of each network", "square"),
        _place("errors", "Relative error of each prediction over measured latency", "square"),
    )
    figures = (
        ("predictions", draw_predictions(data.networks)),
        ("errors", draw_errors(data.networks)),
    )
    return Section(title, f'{note}<div class="grid">{"".join(places)}</div>{table}', figures)


def _show_shift(shift: FamilyShift) -> str:
    percent = shift.percent
    return (
        f"<p>The device since its profile: {shift.n_networks} networks of {escape(shift.family)} "
        f"that the model learned from changed by {percent.value:+.1f} % [{percent.low:+.1f}, "
        f"{percent.high:+.1f}]. Errors contain that change.</p>"
    )


def show_accuracy(data: ReportData) -> Section:
    """Accuracy against latency."""
    title = "Accuracy against latency"
    if not data.subnets and not data.front:
        command = f"latloop search {data.device.name} --space nas_bench_macro --latency 8ms"
        return Section(title, show_missing("No space was searched.", command))
    shown = "" if len(data.subnets) <= MAX_POINTS else " The cloud is thinned."
    note = (
        f"<p>{len(data.subnets):,} subnets at their predicted latency; the step line "
        f"joins those that no other one beats.{shown}</p>"
    )
    place = _place("accuracy", "Accuracy over latency with the limit and the chosen subnet")
    figure = ("accuracy", draw_accuracy(data.subnets, data.front, data.verdict))
    return Section(title, note + place, (figure,))


def show_calls(data: ReportData) -> Section:
    """Where the chosen network spends its time."""
    title = "Where the chosen network spends its time"
    if not data.calls:
        command = f"latloop verify FOLDER --device {data.device.name}"
        return Section(title, show_missing("No network was timed call by call.", command))
    total_us = sum(call.latency_us.value for call in data.calls)
    origin = "measured between timestamps" if data.are_calls_measured else "predicted"
    note = (
        f"<p>{len(data.calls)} calls, {format_number(total_us / 1e3)} ms in all, {origin}, with "
        "95 % intervals. Each bar is relative to the longest of its list.</p>"
    )
    return Section(
        title,
        f"{note}<h3>By kind of operator</h3>{_bars(_by_kind(data.calls), total_us)}"
        f"<h3>Call by call, in order</h3>{_bars(data.calls, total_us)}",
    )


def _by_kind(calls: Sequence[CallTime]) -> list[CallTime]:
    """One row a kind, the costliest first; bounds add up as if all errors went one way."""
    rows = []
    for kind in dict.fromkeys(call.kind for call in calls):
        latencies = [call.latency_us for call in calls if call.kind == kind]
        total = Estimate(
            sum(latency.value for latency in latencies),
            sum(latency.low for latency in latencies),
            sum(latency.high for latency in latencies),
        )
        n_calls = f"{len(latencies)} call{'s' if len(latencies) > 1 else ''}"
        rows.append(CallTime(kind, n_calls, "", total))
    return sorted(rows, key=lambda row: -row.latency_us.value)


def _bars(calls: Sequence[CallTime], total_us: float) -> str:
    """A table with a bar in each row; numbers stay readable without the bars."""
    longest_us = max(call.latency_us.value for call in calls) or 1.0
    rows = []
    for call in calls:
        us = call.latency_us
        what = f"{call.kind} {call.shape}".strip()
        width = 100 * us.value / longest_us
        share = 100 * us.value / total_us if total_us else 0.0
        rows.append(
            f'<tr><th scope="row">{escape(call.name)}<small>{escape(what)}</small></th>'
            f'<td class="bar"><i style="width:{width:.2f}%"></i></td>'
            f"<td>{us.value / 1e3:.4f}<small>[{us.low / 1e3:.4f}, {us.high / 1e3:.4f}]</small></td>"
            f"<td>{share:.1f}</td></tr>"
        )
    return (
        '<div class="scroll tall" tabindex="0"><table class="bars"><thead><tr>'
        '<th scope="col">Call</th><td class="bar"></td><th scope="col">ms</th>'
        '<th scope="col">share %</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def show_learning(data: ReportData) -> Section:
    """The learning curve."""
    title = "Learning curve"
    if not data.learning:
        command = f"latloop evaluate {data.device.name}"
        return Section(title, show_missing("The model was fitted once only.", command))
    rows = [
        (
            str(point.n_networks),
            str(point.n_operators),
            format_estimate(point.median_ape_percent, "%", 3),
        )
        for point in data.learning
    ]
    note = "<p>Error on networks outside the fit when only part of the data is used.</p>"
    table = format_table(("Networks in the fit", "Operators in the fit", "Median error"), rows)
    place = _place("learning", "Median error over the number of measured networks", "low")
    return Section(title, note + place + table, (("learning", draw_learning(data.learning)),))


def show_quality(data: ReportData) -> Section:
    """How far the device can be trusted."""
    title = "Quality of the device"
    if data.quality is None:
        command = f"latloop device check {data.device.name}"
        return Section(title, show_missing("The device was not checked.", command))
    quality = data.quality
    figures: list[tuple[str, str]] = []
    places = []
    if quality.canary_us:
        figures.append(("canary", draw_canary(quality.canary_us, CANARY_TOLERANCE_PERCENT)))
        places.append(_place("canary", "Latency of the canary over time", "low"))
    for index, series in enumerate(row for row in quality.conditions if row.readings):
        figures.append((f"condition{index}", draw_condition(series)))
        places.append(_place(f"condition{index}", f"{series.name} over time", "low"))
    grid = f'<div class="grid">{"".join(places)}</div>' if places else ""
    return Section(title, _findings(quality) + _counts(quality) + grid, tuple(figures))


def _findings(quality: DeviceQuality) -> str:
    if not quality.findings:
        return '<p class="fine">Nothing was found that spoils measurements here.</p>'
    items = "".join(
        f"<li>{escape(finding.text)}<small>Remedy: {escape(finding.remedy)}</small></li>"
        for finding in quality.findings
    )
    return f'<ul class="findings">{items}</ul>'


def _counts(quality: DeviceQuality) -> str:
    rows = [("measurements", f"{quality.n_visits:,}", "")]
    counted = [(f"flag: {name}", n) for name, n in quality.flags]
    counted += [(f"failure: {name}", n) for name, n in quality.failures]
    for name, n in counted:
        share = format_percent(100 * n / quality.n_visits) if quality.n_visits else ""
        rows.append((name, f"{n:,}", share))
    if not quality.failures:
        rows.append(("failures", "0", ""))
    if quality.canary_us:
        values = [reading.value for reading in quality.canary_us]
        middle = median(values)
        outside = max(abs(value / middle - 1) for value in values)
        rows.append(
            (
                "canary, median",
                f"{format_number(middle)} us",
                f"at most {format_percent(100 * outside)} off",
            )
        )
    return format_table(("What", "Number", "Share"), rows)


def show_commands(data: ReportData) -> Section:
    """How to make everything on the page again."""
    title = "How to reproduce"
    if not data.commands:
        return Section(title, show_missing("No commands were recorded.", "latloop quickstart"))
    items = "".join(
        f"<li>{escape(command.purpose)}<pre><code>{escape(command.text)}</code></pre></li>"
        for command in data.commands
    )
    return Section(title, f'<ol class="commands">{items}</ol>')
