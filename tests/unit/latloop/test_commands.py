"""What commands answer once the work is done: JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latloop.journeys.deploy import Verdict
from profiler.deployment import read_deployment
from profiler.output_check import OutputCheck
from profiler.sessions import NetworkMeasurement
from tests.command import RunHere

MEASURED = NetworkMeasurement(
    latency_us=2500.0,
    low_us=2400.0,
    high_us=2700.0,
    confidence=0.96,
    upper_us=2650.0,
    session_us=(2400.0, 2500.0, 2700.0),
    flags=("stolen",),
)
AGREE = OutputCheck(max_error=1e-5, min_difference=0.5, n_inputs=3)
DIFFER = OutputCheck(max_error=0.02, min_difference=0.5, n_inputs=3)
SAY_NOTHING = OutputCheck(max_error=1e-5, min_difference=1e-4, n_inputs=3)


@pytest.mark.parametrize(
    ("limit_us", "outputs", "meets_limit", "code"),
    [
        (None, AGREE, None, 0),
        (2650.0, AGREE, True, 0),  # the upper bound of the median may be the limit itself
        (2649.0, AGREE, False, 1),  # although the median itself is below
        (2650.0, DIFFER, True, 1),
        (2650.0, SAY_NOTHING, True, 1),
        (None, DIFFER, None, 1),
    ],
)
def test_verify_ends_with_1_unless_limit_and_outputs_hold(
    latloop: RunHere,
    deployed: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit_us: float | None,
    outputs: OutputCheck,
    meets_limit: bool | None,
    code: int,
) -> None:
    verdict = Verdict(read_deployment(deployed), outputs, MEASURED, limit_us)
    monkeypatch.setattr("latloop.journeys.deploy.verify", lambda *_: verdict)
    ended = latloop("verify", deployed, "--json")
    answer = json.loads(ended.out)
    assert ended.code == code
    assert answer["meets_limit"] is meets_limit
    assert answer["max_output_error"] == outputs.max_error
    assert (answer["measured_low_ms"], answer["measured_ms"], answer["measured_high_ms"]) == (
        2.4,
        2.5,
        2.7,
    )
    assert latloop("verify", deployed).code == code, "for a person as for a program"


def test_verify_hands_on_the_limit_that_was_typed(
    latloop: RunHere, deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def verify(_: object, deployment: object, limit_us: float, *__: object) -> Verdict:
        limits.append(limit_us)
        return Verdict(deployment, AGREE, MEASURED, limit_us)  # type: ignore[arg-type]

    monkeypatch.setattr("latloop.journeys.deploy.verify", verify)
    assert latloop("verify", deployed, "--latency", "2.7ms").code == 0
    assert latloop("verify", deployed, "--latency", "2600us").code == 1
    assert limits == [2700.0, 2600.0]


def test_measure_answers_with_the_keys_of_the_contract(
    latloop: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latloop.journeys.measure.measure", lambda *_: MEASURED)
    ended = latloop("measure", "local", "nas_bench_macro:00000000", "--json")
    assert ended.code == 0
    answer = json.loads(ended.out)
    expected = {
        "device": "local",
        "latency_ms": 2.5,
        "low_ms": 2.4,
        "high_ms": 2.7,
        "confidence": 0.96,
        "sessions": 3,
        "flags": ["stolen"],
    }
    assert {key: answer[key] for key in expected} == expected


def test_ctrl_c_ends_with_130_and_says_that_nothing_is_lost(
    latloop: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("latloop.journeys.measure.measure", interrupt)
    ended = latloop("measure", "local", "nas_bench_macro:00000000", "--json")
    assert (ended.code, ended.out) == (130, "")
    assert "what was measured is kept: run the same command to go on" in ended.err


def test_an_error_of_ours_that_nobody_expected_keeps_its_traceback(
    latloop: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("latloop.journeys.measure.measure", fail)
    with pytest.raises(ZeroDivisionError):
        latloop("measure", "local", "nas_bench_macro:00000000")
