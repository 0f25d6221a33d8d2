"""What pages of figures share: the device in a line, and a picture of bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

GREEN, RED, GREY = "#2a7f62", "#b5532c", "#9aa3ab"
_WIDTH, _ROW, _LEFT = 720, 24, 220
#: Pixels to the mark, less where a longer bar would not fit, and pixels kept for a bar's number.
_SCALE, _NUMBER = 300, 50


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a picture, as long as its value; 1 is where the mark stands."""

    label: str
    value: float
    color: str


def device_line(document: dict[str, Any]) -> str:
    """The device and the day of a document of raw figures."""
    board = document["board"]
    device = f"{board['n_cores']}-core {board['cpu_model']} virtual machine"
    return f"{device}, {document['made_at'][:10]}"


def bar_chart(bars: Sequence[Bar], mark: str) -> str:
    """An SVG of bars below each other, with a dashed line at 1 under the words of the mark."""
    height = _ROW * (len(bars) + 2)
    longest = max(bar.value for bar in bars)
    scale = min(_SCALE, (_WIDTH - _LEFT - _NUMBER) / longest)
    one = round(_LEFT + scale)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{one}" y="15" text-anchor="middle">{mark}</text>',
        f'<line x1="{one}" y1="20" x2="{one}" y2="{height - _ROW // 2}" stroke="black" '
        'stroke-dasharray="4 3"/>',
    ]
    for index, bar in enumerate(bars):
        top = _ROW * (index + 1)
        parts += [
            f'<text x="{_LEFT - 8}" y="{top + 16}" text-anchor="end">{bar.label}</text>',
            f'<rect x="{_LEFT}" y="{top + 4}" width="{scale * bar.value:.0f}" height="16" '
            f'fill="{bar.color}"/>',
            # On a white rim, lest the dashed line cross a number.
            f'<text x="{_LEFT + scale * bar.value + 6:.0f}" y="{top + 16}" stroke="white" '
            f'stroke-width="6" paint-order="stroke">{bar.value:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
