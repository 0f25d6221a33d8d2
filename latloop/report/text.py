"""Numbers as people read them, and HTML that cannot be broken by what it shows."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from latloop.report.data import Estimate


def escape(text: object) -> str:
    """Text that is safe in HTML content and in quoted attributes."""
    return html.escape(str(text), quote=True)


def escape_label(text: object) -> str:
    """Text that is safe in a plotly label, which reads a little HTML itself."""
    return html.escape(str(text), quote=False)


def n_decimals(value: float, n_digits: int = 4) -> int:
    """Decimals that show this many significant digits, between 0 and 6."""
    if value == 0:
        return 2
    return min(6, max(0, n_digits - 1 - math.floor(math.log10(abs(value)))))


def format_number(value: float, n_digits: int = 4) -> str:
    """A number with about this many significant digits."""
    return f"{value:.{n_decimals(value, n_digits)}f}"


def format_interval(estimate: Estimate, n_digits: int = 4) -> str:
    """`[low, high]` with the decimals that suit the value."""
    decimals = n_decimals(estimate.value, n_digits)
    return f"[{estimate.low:.{decimals}f}, {estimate.high:.{decimals}f}]"


def format_estimate(estimate: Estimate, unit: str, n_digits: int = 4) -> str:
    """`value unit [low, high]`."""
    decimals = n_decimals(estimate.value, n_digits)
    return f"{estimate.value:.{decimals}f} {unit} {format_interval(estimate, n_digits)}"


def format_percent(value: float) -> str:
    """A share of networks or of time: one decimal."""
    return f"{value:.1f} %"


def format_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """An HTML table; the first column is text, the others are numbers. Escapes every cell."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
