"""The top of the page: what was done, where, and whether the limit holds."""

from __future__ import annotations

from latloop.report.data import ReportData, Verdict
from latloop.report.text import (
    escape,
    format_estimate,
    format_interval,
    format_number,
)


def show_header(data: ReportData) -> str:
    """Summary, verdict and device."""
    verdict = data.verdict
    if verdict is None:
        body = show_missing("No network was chosen yet.", _search_command(data))
    else:
        body = _banner(verdict) + _ruler(verdict) + _tiles(verdict)
    return f'<p class="summary">{escape(data.summary)}</p>\n{body}\n{_device(data)}'


def show_missing(text: str, command: str) -> str:
    """A part that was not done, and the command that does it."""
    return (
        f'<div class="missing">{escape(text)} To get it:'
        f"<pre><code>{escape(command)}</code></pre></div>"
    )


def _search_command(data: ReportData) -> str:
    return f"latloop search {data.device.name} --space nas_bench_macro --latency 8ms"


def _banner(verdict: Verdict) -> str:
    limit = f"{format_number(verdict.limit_ms)} ms"
    confidence = f"{100 * verdict.confidence:g} % confidence"
    if verdict.measured_ms is None or verdict.meets_limit is None:
        kind, sign, claim = "open", "?", "Not yet proved on the device"
        detail = f"predicted {format_estimate(verdict.predicted_ms, 'ms')}, limit {limit}"
    else:
        kind, sign, claim = (
            ("yes", "✓", "Meets the limit")
            if verdict.meets_limit
            else ("no", "✗", "Misses the limit")
        )
        detail = f"measured {format_estimate(verdict.measured_ms, 'ms')}, limit {limit}"
    return (
        f'<div class="verdict {kind}" role="status"><span class="sign" aria-hidden="true">{sign}'
        f"</span><div><strong>{claim}</strong>"
        f"<span>{escape(detail)}, {escape(confidence)}</span></div></div>"
    )


def _ruler(verdict: Verdict) -> str:
    """Latency drawn to scale from zero: the measured or predicted interval beside the limit."""
    latency = verdict.measured_ms or verdict.predicted_ms
    span = 1.15 * max(verdict.limit_ms, latency.high)

    def share(value_ms: float) -> str:
        return f"{100 * max(0.0, value_ms) / span:.2f}%"

    width = f"{100 * (latency.high - max(0.0, latency.low)) / span:.2f}%"
    return (
        '<div class="ruler" aria-hidden="true">'
        f'<i class="bar" style="width:{share(latency.value)}"></i>'
        f'<i class="interval" style="left:{share(latency.low)};width:{width}"></i>'
        f'<i class="limit" style="left:{share(verdict.limit_ms)}"></i>'
        f'<span style="left:{share(verdict.limit_ms)}">limit</span></div>'
    )


def _tiles(verdict: Verdict) -> str:
    error = verdict.accuracy_error_percent
    accuracy_note = "error unknown" if error is None else f"± {error:.2f} points (95 %)"
    measured = verdict.measured_ms
    tiles = [
        ("Limit", _latency(verdict.limit_ms), f"at {100 * verdict.confidence:g} % confidence"),
        ("Predicted", _latency(verdict.predicted_ms.value), format_interval(verdict.predicted_ms)),
        ("Measured", "not yet", "latloop verify proves it")
        if measured is None
        else (
            "Measured",
            _latency(measured.value),
            f"{format_interval(measured)}, {verdict.n_sessions} sessions",
        ),
        ("Accuracy", f"{verdict.accuracy_percent:.2f} %", accuracy_note),
    ]
    cells = "".join(_tile(*tile) for tile in tiles)
    weights = f" Weights: {escape(verdict.weights)}." if verdict.weights else ""
    return (
        f'<dl class="tiles">{cells}</dl>'
        f'<p class="chosen">Chosen subnet <code>{escape(verdict.space)}:{escape(verdict.subnet)}'
        f"</code> out of {verdict.n_evaluations:,} priced. "
        f"Accuracy: {escape(verdict.accuracy_source)}.{weights}</p>"
    )


def _latency(value_ms: float) -> str:
    return f"{format_number(value_ms)} ms"


def _tile(name: str, value: str, note: str) -> str:
    return (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
    )


def _device(data: ReportData) -> str:
    device = data.device
    versions = ", ".join(f"{name} {version}" for name, version in device.versions)
    rows = (
        ("Device", f"{device.name} ({device.device_id})"),
        ("Board", device.board),
        ("Runtime", device.runtime),
        ("Versions", versions or "not recorded"),
        ("Made", data.made_at.strftime("%Y-%m-%d %H:%M %Z").strip()),
    )
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in rows)
    return f'<dl class="device">{cells}</dl>'
