"""What commands print, and where."""

from __future__ import annotations

import io
import json
import sys

import pytest

from latloop.cli import output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((2.314, 2.276, 2.349), "2.31 [2.28, 2.35] ms"),
        ((99.994, 98.0, 101.26), "99.99 [98.00, 101.26] ms"),
        ((100.0, 99.96, 100.26), "100.0 [100.0, 100.3] ms"),
    ],
)
def test_an_interval_has_two_decimals_below_a_hundred_and_one_above(
    numbers: tuple[float, float, float], text: str
) -> None:
    assert output.interval(*numbers, "ms") == text


def test_json_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"text": "two\nlines", "numbers": [1, 2.5]})
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert json.loads(printed.out) == {"text": "two\nlines", "numbers": [1, 2.5]}
    assert printed.err == ""


def test_json_never_holds_a_number_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        output.print_json({"latency_ms": float("nan")})


def test_a_log_gets_a_line_for_each_tenth_of_a_stage_and_for_each_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with output.progress_bars() as report:
        for done in range(201):
            report("compile", done, 200)
        report("bench has started anew", 0, 0)
    printed = capsys.readouterr()
    assert printed.out == ""
    tenths = [f"compile: {done}/200" for done in range(0, 201, 20)]
    assert printed.err.splitlines() == [*tenths, "bench has started anew"]


def test_a_log_gets_a_stage_again_when_it_begins_again(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bars() as report:
        for _ in range(2):
            for done in range(3):
                report("compile", done, 2)
    lines = ["compile: 0/2", "compile: 1/2", "compile: 2/2"]
    assert capsys.readouterr().err.splitlines() == [*lines, *lines]


def test_a_terminal_gets_bars_on_stderr_and_nothing_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress_bars() as report:
        for stage in ("compile", "time kernels", "compile"):  # the third time it begins anew
            for done in range(4):
                report(stage, done, 3)
    assert capsys.readouterr().out == ""
    shown = terminal.getvalue()
    assert "compile" in shown
    assert "time kernels" in shown
    assert "3/3" in shown


def test_a_table_reaches_stdout_whole(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/home/somebody/" + "a-long-name/" * 12
    output.print_table("found", ("", "result"), [("deployed in", long), ("limit", "2.00 ms")])
    printed = capsys.readouterr()
    assert printed.err == ""
    letters = "".join(c for c in printed.out if c.isalnum() or c in "/-.")
    assert long in letters, "a path that is cut cannot be copied"
