"""The report shows what it was given, safely, and works without a network."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latloop.report import MissingPlotlyError, render_report, write_report
from latloop.report.accuracy import thin
from latloop.report.data import (
    CallTime,
    Command,
    DeviceQuality,
    DeviceSummary,
    Estimate,
    FamilyQuality,
    FamilyShift,
    Finding,
    LearningPoint,
    NetworkPoint,
    Reading,
    ReportData,
    Series,
    SubnetPoint,
    Verdict,
)
from latloop.report.plot import log_range, log_ticks
from latloop.report.text import format_estimate, format_number

EVIL = "<script>alert('x')</script> & \"q\""

DEVICE = DeviceSummary(
    "bench7", "8c1d-17e2", "aarch64, Cortex-A72", "latloop, 1 thread", (("zig", "0.15.1"),)
)
VERDICT = Verdict(
    space="nas_bench_macro",
    subnet="22212220",
    limit_ms=3.6,
    confidence=0.95,
    predicted_ms=Estimate(3.421, 3.301, 3.541),
    measured_ms=Estimate(3.452, 3.431, 3.478),
    n_sessions=3,
    meets_limit=True,
    accuracy_percent=92.97,
    accuracy_error_percent=0.31,
    accuracy_source="CIFAR-10, mean of three trainings",
    n_evaluations=3969,
    weights="untrained, seeded random",
)
FULL = ReportData(
    summary="Measured, searched, proved.",
    made_at=datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
    device=DEVICE,
    commands=(Command("Search", "latloop search bench7 --latency 3.6ms"),),
    verdict=VERDICT,
    networks=(
        NetworkPoint("a:1", "a", Estimate(2.0, 1.9, 2.1), Estimate(1.6, 1.55, 1.65)),
        NetworkPoint("b:2", "b", Estimate(8.0, 7.0, 9.0), Estimate(10.0, 9.9, 10.1)),
    ),
    families=(
        FamilyQuality("a", "roofline", 41, Estimate(7.31, 6.42, 8.53), 37.5, 62.5, 93.8, 21.4),
    ),
    shifts=(FamilyShift("a", 9, Estimate(2.34, 1.51, 3.06)),),
    subnets=(SubnetPoint("00000000", 1.25, 88.88), SubnetPoint("22212220", 3.42, 92.97)),
    front=(SubnetPoint("22212220", 3.42, 92.97),),
    calls=(
        CallTime("stem", "conv2d", "32x32x3 to 32x32x32", Estimate(1500.0, 1400.0, 1700.0)),
        CallTime("head", "conv2d", "4x4x256 to 4x4x1280", Estimate(500.0, 400.0, 600.0)),
        CallTime("classifier", "dense", "1280 to 10", Estimate(2000.0, 1900.0, 2100.0)),
    ),
    learning=(LearningPoint(12, 116, Estimate(6.04, 5.06, 7.41)),),
    quality=DeviceQuality(
        n_visits=5310,
        flags=(("canary_moved", 531),),
        failures=(("timeout", 2),),
        canary_us=(Reading(0.0, 200.0), Reading(1.0, 202.0), Reading(2.0, 220.0)),
        conditions=(Series("Clock", "MHz", (Reading(0.0, 1500.0),)),),
        findings=(Finding("The governor is ondemand.", "set it to performance"),),
    ),
)
EMPTY = ReportData("Enrolled a board.", FULL.made_at, DEVICE)


class _Tags(HTMLParser):
    """Collects the page's text outside scripts, its references and its scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.references: list[str] = []
        self.text: list[str] = []
        self.figures: dict[str, str] = {}
        self.n_scripts = 0
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.references += [v or "" for k, v in attrs if k in {"src", "href", "action", "srcset"}]
        self._inside = tag if tag in {"script", "style"} else self._inside
        if tag == "script":
            self.n_scripts += 1
            self._inside = names.get("data-figure") or "script"

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.figures[self._inside] = data
        else:
            self.text.append(data)


def _read(page: str) -> tuple[_Tags, str]:
    tags = _Tags()
    tags.feed(page)
    return tags, re.sub(r"\s+", " ", " ".join(tags.text))


def test_every_number_given_is_on_the_page() -> None:
    _, text = _read(render_report(FULL))
    for part in (
        "3.600 ms", "3.421 ms", "[3.301, 3.541]", "3.452 ms [3.431, 3.478]", "3 sessions",
        "92.97 %", "± 0.31 points", "3,969 priced", "nas_bench_macro:22212220",
        "7.31 % [6.42, 8.53]", "41", "37.5 %", "62.5 %", "93.8 %", "± 21.4 %",
        "9 networks of a", "+2.3 % [+1.5, +3.1]",
        "6.04 % [5.06, 7.41]", "116", "1.5000", "[1.4000, 1.7000]", "5,310", "531", "10.0 %",
        "202.0 us", "at most 8.9 % off", "aarch64, Cortex-A72", "zig 0.15.1",
        "2026-03-04 05:06 UTC",
        "latloop search bench7 --latency 3.6ms", "set it to performance",
        "untrained, seeded random",
    ):  # fmt: skip
        assert part in text, part


def test_time_is_aggregated_by_kind_with_shares() -> None:
    _, text = _read(render_report(FULL))
    # 1500 + 500 of 4000 us are convolutions: half of it in two calls.
    assert re.search(r"conv2d 2 calls 2\.0000 \[1\.8000, 2\.3000\] 50\.0", text)
    assert re.search(r"dense 1 call 2\.0000 \[1\.9000, 2\.1000\] 50\.0", text)
    assert re.search(r"head conv2d 4x4x256 to 4x4x1280 0\.5000 \[0\.4000, 0\.6000\] 12\.5", text)


@pytest.mark.parametrize(
    ("verdict", "claim"),
    [
        (VERDICT, "Meets the limit"),
        (replace(VERDICT, meets_limit=False), "Misses the limit"),
        (replace(VERDICT, meets_limit=None, measured_ms=None), "Not yet proved on the device"),
    ],
)
def test_the_verdict_is_said_in_words(verdict: Verdict, claim: str) -> None:
    claims = {"Meets the limit", "Misses the limit", "Not yet proved on the device"}
    _, text = _read(render_report(replace(FULL, verdict=verdict)))
    assert {found for found in claims if found in text} == {claim}


def test_a_page_asks_nothing_from_any_network() -> None:
    tags, _ = _read(render_report(FULL))
    assert tags.references == []
    assert "@import" not in tags.figures["style"]
    assert "url(" not in tags.figures["style"]


def test_plotly_is_inlined_once_and_only_where_there_is_a_figure() -> None:
    library = importlib.import_module("plotly.offline").get_plotlyjs()
    assert render_report(FULL).count(library) == 1
    assert library not in render_report(EMPTY)


def test_figures_hold_the_points_given() -> None:
    tags, _ = _read(render_report(FULL))
    figures = {name: json.loads(text) for name, text in tags.figures.items() if text[0] == "{"}
    assert set(figures) == {
        "predictions", "errors", "accuracy", "learning", "canary", "condition0"
    }  # fmt: skip
    errors = {trace["name"]: trace["y"] for trace in figures["errors"]["data"]}
    assert errors["a"] == pytest.approx([25.0])
    assert errors["b"] == pytest.approx([-20.0])
    assert figures["accuracy"]["layout"]["shapes"][0]["x0"] == 3.6
    chosen = next(t for t in figures["accuracy"]["data"] if t["name"] == "chosen, measured")
    assert chosen["x"] == [3.452]
    assert chosen["error_x"]["array"] == pytest.approx([0.026])
    assert figures["canary"]["data"][0]["y"] == pytest.approx([-200 / 202, 0, 1800 / 202])


def test_hover_text_tells_name_and_error() -> None:
    tags, _ = _read(render_report(FULL))
    hover = json.dumps(json.loads(tags.figures["predictions"]))
    assert "a:1" in hover
    assert "error +25.0 %" in hover
    assert "error -20.0 %" in hover


def test_parts_that_were_not_done_say_how_to_get_them() -> None:
    tags, text = _read(render_report(EMPTY))
    for command in (
        "latloop search bench7 --space", "latloop evaluate bench7", "latloop verify FOLDER",
        "latloop device check bench7", "latloop quickstart",
    ):  # fmt: skip
        assert command in text, command
    assert not [name for name, script in tags.figures.items() if script.startswith("{")]
    assert "None" not in text


@pytest.mark.parametrize(
    "part",
    [
        "verdict",
        "networks",
        "families",
        "shifts",
        "subnets",
        "front",
        "calls",
        "learning",
        "quality",
    ],
)
def test_any_part_may_be_missing(part: str) -> None:
    data = replace(FULL, **{part: None if part in {"verdict", "quality"} else ()})
    tags, text = _read(render_report(data))
    places = set(re.findall(r'class="figure[^"]*" id="(\w+)"', render_report(data)))
    assert places == {name for name, script in tags.figures.items() if script.startswith("{")}
    assert "None" not in text


def test_nothing_given_can_break_out_of_the_page() -> None:
    data = replace(
        FULL,
        summary=EVIL,
        device=DeviceSummary(EVIL, EVIL, EVIL, EVIL, ((EVIL, EVIL),)),
        commands=(Command(EVIL, EVIL),),
        verdict=replace(VERDICT, space=EVIL, subnet=EVIL, accuracy_source=EVIL, weights=EVIL),
        networks=tuple(replace(point, name=EVIL, family=EVIL) for point in FULL.networks),
        families=(replace(FULL.families[0], family=EVIL, predictor=EVIL),),
        shifts=(replace(FULL.shifts[0], family=EVIL),),
        subnets=(SubnetPoint(EVIL, 1.0, 90.0),),
        calls=(CallTime(EVIL, EVIL, EVIL, Estimate(1.0, 1.0, 1.0)),),
        quality=DeviceQuality(
            1,
            ((EVIL, 1),),
            ((EVIL, 1),),
            (),
            (Series(EVIL, EVIL, (Reading(0.0, 1.0),)),),
            (Finding(EVIL, EVIL),),
        ),
    )
    page = render_report(data)
    tags, text = _read(page)
    assert "<script>alert" not in page
    assert EVIL in text
    clean, _ = _read(render_report(FULL))
    assert tags.n_scripts <= clean.n_scripts


def test_without_plotly_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plotly", "plotly.offline", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPlotlyError, match="pip install plotly"):
        render_report(FULL)
    assert "Enrolled a board." in render_report(EMPTY)


def test_a_failed_write_leaves_the_old_report_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    write_report(EMPTY, path)
    old = path.read_text(encoding="utf-8")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target), None, str(self))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(replace(EMPTY, summary="new"), path)
    assert path.read_text(encoding="utf-8") == old
    assert list(tmp_path.iterdir()) == [path]


@given(st.floats(1e-3, 1e4), st.floats(1.0, 1e4))
def test_log_axes_always_have_two_to_twelve_labels_inside(least: float, ratio: float) -> None:
    low, high = log_range([least, least * ratio])
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(ticks)
    assert low <= ticks[0] * (1 + 1e-9)
    assert ticks[-1] <= high * (1 + 1e-9)


def test_a_large_cloud_is_thinned_to_the_most_that_is_drawn() -> None:
    points = [SubnetPoint(str(i), float(i + 1), 90.0) for i in range(10_001)]
    kept = thin(points, 4000)
    assert 2000 < len(kept) <= 4000
    assert kept[0].latency_ms == 1.0


def test_numbers_keep_four_digits_whatever_their_size() -> None:
    assert [format_number(v) for v in (0.012364, 1.23456, 12.3456, 1234.56)] == [
        "0.01236", "1.235", "12.35", "1235",
    ]  # fmt: skip
    assert format_estimate(Estimate(12.345, 12.0, 13.0), "ms") == "12.35 ms [12.00, 13.00]"


@pytest.mark.parametrize(("low", "high"), [(2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_an_interval_must_be_finite_and_ordered(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"low must be|finite"):
        Estimate(1.0, low, high)
