"""Without ONNX Runtime its device is listed and everything else works."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError

import pytest

from tests.command import RunHere


@pytest.fixture
def _without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("devices.ort.version", missing)


@pytest.mark.usefixtures("_without_onnx_runtime")
@pytest.mark.parametrize(
    "command",
    [
        ("fit", "local-ort"),
        ("predict", "local-ort", "nas_bench_macro:00000000"),
        ("device", "check", "local-ort"),
    ],
)
def test_the_command_that_installs_it_is_told(latloop: RunHere, command: tuple[str, ...]) -> None:
    ended = latloop(*command)
    assert ended.code == 2
    assert ended.out == ""
    assert "run `pip install 'latloop[ort]'`" in ended.err


@pytest.mark.usefixtures("_without_onnx_runtime")
def test_both_devices_of_this_machine_are_listed(latloop: RunHere) -> None:
    ended = latloop("device", "list", "--json")
    assert ended.code == 0
    runtimes = {entry["name"]: entry["runtime"] for entry in json.loads(ended.out)}
    assert runtimes == {"local": "latloop", "local-ort": "onnxruntime"}


@pytest.mark.usefixtures("_without_onnx_runtime")
def test_the_other_runtime_does_not_need_it(latloop: RunHere) -> None:
    ended = latloop("fit", "local")
    assert "latloop profile local" in ended.err
