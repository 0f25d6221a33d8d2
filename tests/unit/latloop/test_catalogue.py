"""The catalogue says what the code does: it is made from it, and kept up to date."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from latloop.journeys.catalogue import describe_handling, describe_kind
from profiler.importers.catalogue import Handling, describe_operators, operator_names
from profiler.operator import OWN_KINDS

PAGE = Path(__file__).parents[3] / "docs" / "catalogue.md"
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
#: Of every way an operator can go; trying out all of them takes a minute.
SAMPLE = (
    "Conv", "MatMul", "GlobalAveragePool", "BatchNormalization", "Relu", "Identity", "Softmax",
    "Gather", "QuantizeLinear", "Range", "Bernoulli", "Celu",
)  # fmt: skip


def test_every_kind_is_on_the_page_as_the_code_has_it() -> None:
    for kind in OWN_KINDS:
        assert describe_kind(kind) in ROWS, f"run `latloop catalogue > {PAGE}`"
    assert sum(row.startswith("| `") for row in ROWS) == len(OWN_KINDS)


def test_every_operator_of_the_newest_opset_is_on_the_page_once() -> None:
    named = [row.split(" | ")[0].removeprefix("| ") for row in ROWS]
    first = named.index("Operator") + 1
    assert tuple(named[first:]) == operator_names()


def test_the_page_says_what_an_import_does() -> None:
    handled = describe_operators(SAMPLE)
    assert [each.operator for each in handled] == list(SAMPLE)
    for each in handled:
        assert describe_handling(each) in ROWS, f"run `latloop catalogue > {PAGE}`"
    ways = {each.operator: each.ways for each in handled}
    assert ways["Conv"][0] == ways["MatMul"][0] == "own"
    assert "drawn in" in ways["BatchNormalization"]
    assert "drawn in" in ways["Relu"]
    assert "folded" in ways["Identity"]
    assert ways["QuantizeLinear"] == ("refused",)
    assert ways["Range"] == ("constant",)
    assert ways["Bernoulli"] == ("none",)
    kinds = {each.operator: each.kinds for each in handled}
    assert kinds["Conv"] == ("conv2d",)


def test_a_row_names_kinds_first() -> None:
    handling = Handling("Conv", 22, ("own", "generic"), ("conv2d", "depthwise_conv2d"))
    row = "| Conv | 22 | `conv2d`, `depthwise_conv2d`, generic |"
    assert describe_handling(handling) == row


def test_a_crash_while_trying_out_is_reported_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crashed = subprocess.CompletedProcess([], -11, "", "first\nlast words\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: crashed)
    with pytest.raises(RuntimeError, match="failed: last words"):
        describe_operators(["Conv"])
