"""Deployments: written, read back and run, and refused where they are damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from devices.local import LocalDevice
from profiler.deployment import (
    EXECUTABLE_FILE,
    FORMAT_VERSION,
    MODEL_FILE,
    PROGRAM_FILE,
    REPORT_FILE,
    WEIGHTS_FILE,
    Deployment,
    DeploymentError,
    read_deployment,
    read_report,
    write_deployment,
    write_report,
)
from profiler.output_check import compare_outputs
from profiler.program import assemble
from tests.unit.searchspace.network_interpreter import interpret

from .conftest import NetworkBench
from .examples import Array, network_inputs, network_weights, relative_error
from .networks import EVERY_KIND, RESIDUAL

WEIGHTS = network_weights(EVERY_KIND, np.random.default_rng(8))
FILES = (PROGRAM_FILE, EXECUTABLE_FILE, WEIGHTS_FILE, MODEL_FILE)


def nchw(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: array.transpose(0, 3, 1, 2) for name, array in arrays.items()}


@pytest.fixture
def deployed(network_bench: NetworkBench, tmp_path: Path) -> Deployment:
    program = assemble(EVERY_KIND, network_bench.kernels)
    folder = tmp_path / "deployment"
    return write_deployment(folder, program, network_bench.executable, WEIGHTS, "a-device")


def test_a_deployment_runs_from_its_folder_alone(
    deployed: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.move(deployed.folder, tmp_path / "moved to")
    monkeypatch.chdir(tmp_path)
    deployment = read_deployment(Path("moved to"))  # a relative path, of another place then
    monkeypatch.chdir("/")
    with LocalDevice().start(Path(moved) / EXECUTABLE_FILE) as runner:
        for seed in (1, 2):
            inputs = network_inputs(EVERY_KIND, np.random.default_rng(seed))
            outputs = deployment.run(runner, nchw(inputs))
            expected = interpret(EVERY_KIND, WEIGHTS, inputs)
            assert set(outputs) == {"logits", "features"}
            assert outputs["logits"].shape == (2, 5)
            assert relative_error(outputs["logits"], expected["logits"][:, 0, 0]) < 1e-5
            features = expected["features"].transpose(0, 3, 1, 2)
            assert relative_error(outputs["features"], features) < 1e-5


def test_a_deployment_is_read_back_as_it_was_written(
    deployed: Deployment, network_bench: NetworkBench
) -> None:
    program = assemble(EVERY_KIND, network_bench.kernels)
    assert read_deployment(deployed.folder) == deployed
    assert deployed.network == "test:every_kind"
    assert deployed.device_id == "a-device"
    assert deployed.program_digest == program.digest
    assert deployed.operators == tuple(op.key for op in EVERY_KIND.operators)
    assert deployed.workload.calls == program.workload.calls
    assert deployed.inputs == program.inputs
    assert deployed.executable.read_bytes() == network_bench.executable.read_bytes()
    model = onnx.load(deployed.folder / MODEL_FILE)
    assert [value.name for value in model.graph.output] == ["logits", "features"]


def test_a_second_deployment_replaces_the_first_and_its_report(
    deployed: Deployment, network_bench: NetworkBench
) -> None:
    write_report(deployed.folder, {"measured_ms": 1.5})
    program = assemble(RESIDUAL, network_bench.kernels)
    weights = network_weights(RESIDUAL, np.random.default_rng(8))
    second = write_deployment(
        deployed.folder, program, network_bench.executable, weights, "another"
    )
    assert second.network == read_deployment(deployed.folder).network == "test:residual"
    assert read_report(deployed.folder) == {}
    assert {path.name for path in deployed.folder.iterdir()} == set(FILES)


def test_inputs_that_do_not_fit_are_refused_with_what_is_wanted(
    deployed: Deployment, network_bench: NetworkBench
) -> None:
    inputs = nchw(network_inputs(EVERY_KIND, np.random.default_rng(1)))
    with LocalDevice().start(network_bench.executable) as runner:
        with pytest.raises(ValueError, match="inputs must be image, extra, got image"):
            deployed.run(runner, {"image": inputs["image"]})
        with pytest.raises(ValueError, match="inputs must be image, extra, got none"):
            deployed.run(runner, {})
        with pytest.raises(ValueError, match=r"image, extra, got .*mask"):
            deployed.run(runner, {**inputs, "mask": inputs["extra"]})
        with pytest.raises(
            ValueError, match=r"extra must have shape \(2, 8, 4, 5\), got \(2, 4, 5, 8\)"
        ):
            deployed.run(runner, inputs | {"extra": inputs["extra"].transpose(0, 2, 3, 1)})


def test_a_weights_file_that_was_cut_short_is_a_failure_with_its_sizes(
    deployed: Deployment, network_bench: NetworkBench
) -> None:
    file = deployed.folder / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:-64])
    inputs = nchw(network_inputs(EVERY_KIND, np.random.default_rng(1)))
    n_bytes = deployed.workload.weight_bytes
    with (
        LocalDevice().start(network_bench.executable) as runner,
        pytest.raises(DeploymentError, match=f"got {n_bytes - 64} of {n_bytes} bytes"),
    ):
        deployed.run(runner, inputs)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(deployed: Deployment, name: str) -> None:
    (deployed.folder / name).unlink()
    with pytest.raises(DeploymentError, match=f"is not a deployment: it has no {name}"):
        read_deployment(deployed.folder)


def test_a_folder_that_is_not_there_is_no_deployment(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="is not a deployment"):
        read_deployment(tmp_path / "absent")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '"text"', "\x00", '{"format": "new"}'])
def test_a_program_file_of_something_else_is_damaged(deployed: Deployment, text: str) -> None:
    (deployed.folder / PROGRAM_FILE).write_text(text)
    with pytest.raises(DeploymentError, match=r"program\.json is damaged .*: deploy again"):
        read_deployment(deployed.folder)


def test_a_program_file_that_is_no_text_is_damaged(deployed: Deployment) -> None:
    (deployed.folder / PROGRAM_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeploymentError, match=r"program\.json is damaged"):
        read_deployment(deployed.folder)


def test_a_program_file_that_was_cut_short_is_damaged_wherever_it_ends(
    deployed: Deployment,
) -> None:
    file = deployed.folder / PROGRAM_FILE
    data = file.read_bytes().rstrip()
    for length in range(0, len(data), 97):
        file.write_bytes(data[:length])
        with pytest.raises(DeploymentError, match=r"program\.json is damaged"):
            read_deployment(deployed.folder)


@pytest.mark.parametrize(
    "key",
    [
        *("format", "network", "device_id", "program_digest", "operators", "arena_bytes"),
        *("weight_bytes", "tensors", "calls", "inputs", "outputs"),
    ],
)
def test_a_program_file_without_a_part_is_damaged(deployed: Deployment, key: str) -> None:
    file = deployed.folder / PROGRAM_FILE
    document = json.loads(file.read_text())
    del document[key]
    file.write_text(json.dumps(document))
    with pytest.raises(DeploymentError, match=f"damaged .*{key}"):
        read_deployment(deployed.folder)


def test_a_newer_format_is_refused_with_both_versions(deployed: Deployment) -> None:
    file = deployed.folder / PROGRAM_FILE
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"format": FORMAT_VERSION + 1}))
    match = f"format {FORMAT_VERSION + 1}, this Latloop reads {FORMAT_VERSION}: install a newer"
    with pytest.raises(DeploymentError, match=match):
        read_deployment(deployed.folder)


def test_a_report_is_read_back_and_replaced(tmp_path: Path) -> None:
    assert read_report(tmp_path) == {}
    write_report(tmp_path, {"measured_ms": 1.5, "flags": ["stolen"]})
    write_report(tmp_path, {"measured_ms": 1.6, "flags": []})
    assert read_report(tmp_path) == {"measured_ms": 1.6, "flags": []}
    assert [path.name for path in tmp_path.iterdir()] == [REPORT_FILE]


#: Outputs of three inputs; the largest magnitudes are 4, 8 and 5.
REFERENCE = [np.array(v, np.float32) for v in ([1, -4, 2], [8, 0, 1], [-5, 5, 5])]


def changed(position: int, index: int, value: float) -> list[Array]:
    outputs = [array.copy() for array in REFERENCE]
    outputs[position][index] = value
    return outputs


def test_equal_outputs_pass_with_the_differences_worked_by_hand() -> None:
    check = compare_outputs(REFERENCE, [REFERENCE, REFERENCE])
    assert check.max_error == 0
    # [1 -4 2] and [8 0 1] differ by 7 of 8, [1 -4 2] and [-5 5 5] by 9 of 5, the others 13 of 5.
    assert check.min_difference == pytest.approx(7 / 8)
    assert check.n_inputs == 3
    assert check.passes


@pytest.mark.parametrize(
    ("error", "passes"), [(8 * 0.9e-3, True), (8 * 1.1e-3, False), (16.0, False)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_error_counts_relative_to_the_largest_output(
    error: float, passes: bool, sign: int
) -> None:
    check = compare_outputs(REFERENCE, [REFERENCE, changed(1, 1, sign * error)])
    assert check.max_error == pytest.approx(error / 8)
    assert check.passes == passes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_output_that_is_no_number_fails_wherever_it_stands(value: float, position: int) -> None:
    wrong = changed(position, 1, value)
    assert not compare_outputs(REFERENCE, [REFERENCE, wrong]).passes
    assert not compare_outputs(wrong, [REFERENCE]).passes
    assert not compare_outputs(wrong, [wrong]).passes


def test_inputs_whose_outputs_do_not_differ_prove_nothing() -> None:
    same = [REFERENCE[0], REFERENCE[1], REFERENCE[1] * np.float32(1.001)]
    check = compare_outputs(same, [same])
    assert check.max_error == 0
    assert check.min_difference == pytest.approx(0.001 / 1.001, rel=1e-3)
    assert not check.passes


def test_a_signal_that_decayed_to_nothing_proves_nothing() -> None:
    nothing = [np.zeros(3, np.float32)] * 3
    assert not compare_outputs(nothing, [nothing]).passes


@pytest.mark.parametrize(
    ("reference", "others"),
    [(REFERENCE[:1], [REFERENCE[:1]]), (REFERENCE, [REFERENCE[:2]]), (REFERENCE, [])],
)
def test_too_little_to_compare_is_refused(
    reference: list[Array], others: list[list[Array]]
) -> None:
    with pytest.raises(ValueError, match="two inputs or more are needed from every way"):
        compare_outputs(reference, others)
