"""The same commands on the same machine, with ONNX Runtime in place of our own kernels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.command import Done, RunHere

from .command_line import latloop, make_home, read_rows, travel_once
from .tiny_space import NAME

DEVICE = "local-ort"
SUBNET = f"{NAME}:0101"
N_NETWORKS = 3


@dataclass(frozen=True)
class OrtJourney:
    """A home after the journey, what each step answered, and the deployment."""

    home: Path
    steps: dict[str, Done]
    folder: Path


@pytest.fixture(scope="module")
def journey(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> OrtJourney:
    def travel(folder: Path) -> dict[str, Done]:
        home, net = make_home(folder / "home", build_cache), folder / "net"
        commands = {
            "profile": (DEVICE, "--space", NAME, "--networks", str(N_NETWORKS)),
            "fit": (DEVICE,),
            "predict": (DEVICE, SUBNET),
            "evaluate": (DEVICE, "--networks", "2"),
            "deploy": (DEVICE, SUBNET, "--folder", net, "--latency", "900ms"),
            "verify": (net, "--device", DEVICE),
        }
        return {name: latloop(home, name, *rest, "--json") for name, rest in commands.items()}

    folder, steps = travel_once(tmp_path_factory, "ort-journey", travel)
    for name, done in steps.items():
        assert done.code == 0, f"{name} ended with {done.code}: {done.err}"
    return OrtJourney(folder / "home", steps, folder / "net")


def test_a_profile_holds_every_operator_and_whole_networks(journey: OrtJourney) -> None:
    answer = journey.steps["profile"].answer
    assert answer["n_operators"] == answer["n_space_operators"]
    assert answer["n_networks"] == N_NETWORKS
    assert answer["n_failures"] == 0


def test_the_model_predicts_without_unseen_operators(journey: OrtJourney) -> None:
    answer = journey.steps["predict"].answer
    assert answer["device"] == DEVICE
    assert answer["unseen_operators"] == []
    assert 0 <= answer["low_ms"] < answer["latency_ms"] < answer["high_ms"]
    assert journey.steps["evaluate"].answer["families"][NAME]["n_networks"] == 2


def test_both_runtimes_of_a_machine_are_devices_of_their_own(
    journey: OrtJourney, here: Callable[[Path], RunHere]
) -> None:
    """What is measured with one runtime is never learned from by the other."""
    own = here(journey.home)("predict", "local", SUBNET, "--json")
    assert own.code == 2
    assert "device local has no latency model yet" in own.err
    assert len({row[1] for row in read_rows(journey.home)}) == 1


def test_a_deployment_is_a_model_and_its_report(journey: OrtJourney) -> None:
    names = {path.name for path in journey.folder.iterdir()}
    assert names == {"model.onnx", "program.json", "report.json"}
    report = json.loads((journey.folder / "report.json").read_text())
    assert report["runtime"]["name"] == "onnxruntime"
    assert report["versions"]["onnxruntime"] == ort.__version__
    for step in ("deploy", "verify"):
        answer = journey.steps[step].answer
        assert answer["meets_limit"] is True
        assert answer["max_output_error"] < 1e-4
        assert 0 < answer["measured_low_ms"] <= answer["measured_ms"] <= answer["measured_high_ms"]


def test_a_deployment_computes_what_onnx_runtime_computes(
    journey: OrtJourney, tmp_path: Path
) -> None:
    image = np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "in.npz", input=image)
    arguments = ("--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz", "--json")
    done = latloop(journey.home, "run", DEVICE, journey.folder, *arguments)
    assert done.code == 0, done.err
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = journey.folder / "model.onnx"
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"input": image})
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs[session.get_outputs()[0].name], wanted, rtol=1e-4)


def test_a_table_of_the_device_can_be_written(
    journey: OrtJourney, here: Callable[[Path], RunHere]
) -> None:
    done = here(journey.home)("table", DEVICE, "--space", NAME, "--format", "csv")
    assert done.code == 0, done.err
    assert "operator,conv2d" in done.out.replace('"', "")


def test_the_device_is_checked_with_its_own_runner(journey: OrtJourney) -> None:
    done = latloop(journey.home, "device", "check", DEVICE, "--json")
    assert done.code in {0, 1}, done.err  # 1: the machine that runs the tests is busy
    assert done.answer["runtime"]["name"] == "onnxruntime"
    assert done.answer["tick_ns"] > 0
