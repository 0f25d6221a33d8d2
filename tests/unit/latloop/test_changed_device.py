"""What `latloop evaluate` measures and says of a device that has changed since its profile."""

from __future__ import annotations

import numpy as np
import pytest

from costmodel.evaluate import Evaluation, FamilyErrors
from costmodel.shift import Shift
from latloop.cli.evaluate import show
from latloop.journeys.evaluate import N_KNOWN, Judgement, draw_known
from profiler.measurement import NetworkLatency
from searchspace.space import load_space

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


def test_known_networks_stay_the_same_when_the_model_learns_from_others_too() -> None:
    space = load_space("nas_bench_macro")
    rng = np.random.default_rng(0)
    names = [space.lower(space.sample(rng)).name for _ in range(60)]
    rows = [NetworkLatency(name, (), 1.0, (1.0,)) for name in [*names, "elsewhere:1"]]
    drawn = [network.name for network in draw_known(rows[1:], space)]
    assert len(set(drawn)) == N_KNOWN
    again = [network.name for network in draw_known(rows, space)]
    assert len(set(drawn) & set(again)) >= N_KNOWN - 1
