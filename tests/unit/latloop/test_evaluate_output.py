"""What `latloop evaluate` says of a device that has changed since its profile."""

from __future__ import annotations

import pytest

from costmodel.evaluate import Evaluation, FamilyErrors
from costmodel.shift import Shift
from latloop.cli.evaluate import show
from latloop.journeys.evaluate import Judgement

ERRORS = FamilyErrors(40, 1.83, 1.31, 3.52, 70.0, 100.0, 65.0, 3.55, 0.987)


def say(shift: Shift, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    show(Judgement(Evaluation((("a", ERRORS),), ()), (), (), (("a", shift),)), "bench7")
    said = capsys.readouterr()
    return said.out, said.err


def test_a_changed_device_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = say(Shift(9, 2.34, 1.51, 3.06), capsys)
    assert "+2.3 [+1.5, +3.1] %" in out
    assert "bench7 is not as it was" in err
    assert "latloop profile bench7 --space a" in err
    assert "latloop fit bench7" in err


def test_a_device_that_is_as_it_was_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = say(Shift(9, -0.21, -0.62, 0.4), capsys)
    assert "-0.2 [-0.6, +0.4] %" in out
    assert err == ""
