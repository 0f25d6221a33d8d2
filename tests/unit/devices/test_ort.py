"""ONNX Runtime as a device: models run and timed in children of one runner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import devices.ort
from devices.device import Failure, Fill, KernelCall, Tensor, Timing, TimingPlan, Workload
from devices.errors import ExecutableRefusedError, MissingRuntimeError
from devices.fill import uniform
from devices.local import start_runner
from devices.ort import OrtDevice, read_model_list, write_model_list
from devices.protocol import PROTOCOL_VERSION
from devices.session import RunnerSession

from .leases import LONG_S, answer_from, mute_host, request

N = 64
QUICK = TimingPlan(0, 0, 1, False, 20_000)
FILLED = Tensor("arena", 0, (N,), Fill(1, 1.0))
RESULT = Tensor("arena", 4 * N, (N,))
ABS = Workload((FILLED, RESULT), (KernelCall("abs", (0, 1)),), 8 * N, 0)


def save(folder: Path, name: str, nodes: list[onnx.NodeProto], dtype: int, n_inputs: int) -> Path:
    """A model of vectors: inputs a, b ..., output y."""
    inputs = [helper.make_tensor_value_info(n, dtype, [N]) for n in "abc"[:n_inputs]]
    graph = helper.make_graph(nodes, name, inputs, [helper.make_tensor_value_info("y", dtype, [N])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def endless(folder: Path) -> Path:
    """A loop that takes longer than anybody waits."""
    scalar, vector = (helper.make_tensor_value_info for _ in range(2))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Cos", ["v"], ["next"]),
        ],
        "body",
        [
            scalar("i", TensorProto.INT64, []),
            scalar("go", TensorProto.BOOL, []),
            vector("v", TensorProto.FLOAT, [N]),
        ],
        [scalar("go_on", TensorProto.BOOL, []), vector("next", TensorProto.FLOAT, [N])],
    )
    count = helper.make_tensor("count", TensorProto.INT64, [], [1 << 60])
    nodes = [
        helper.make_node("Constant", [], ["n"], value=count),
        helper.make_node("Loop", ["n", "", "a"], ["y"], body=body),
    ]
    return save(folder, "endless", nodes, TensorProto.FLOAT, 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    broken = folder / "broken.onnx"
    broken.write_bytes(b"no model")
    files = {
        "abs": save(folder, "abs", [helper.make_node("Abs", ["a"], ["y"])], TensorProto.FLOAT, 1),
        "sub": save(
            folder, "sub", [helper.make_node("Sub", ["a", "b"], ["y"])], TensorProto.INT64, 2
        ),
        "twice": save(
            folder, "twice", [helper.make_node("Add", ["a", "a"], ["y"])], TensorProto.FLOAT, 1
        ),
        "endless": endless(folder),
        "broken": broken,
    }
    path = folder / "models.json"
    write_model_list(path, files)
    return path


@pytest.fixture(scope="module")
def runner(models: Path) -> Iterator[RunnerSession]:
    with OrtDevice().start(models) as session:
        yield session


def failure_of(outcome: Timing | Failure) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


def test_the_fingerprint_is_this_board_with_another_runtime() -> None:
    fingerprint = OrtDevice(versions=(("export", "1"),)).fingerprint()
    assert fingerprint.board == devices.local.LocalDevice().fingerprint().board
    assert fingerprint.runtime.name == "onnxruntime"
    assert fingerprint.runtime.threads == 1
    assert {("onnxruntime", version("onnxruntime")), ("export", "1")} <= set(
        fingerprint.runtime.versions
    )


def test_a_missing_onnx_runtime_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, models: Path
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(devices.ort, "version", missing)
    with pytest.raises(MissingRuntimeError, match=r"run `pip install 'latloop\[ort\]'`"):
        OrtDevice().fingerprint()
    with pytest.raises(MissingRuntimeError):
        OrtDevice().start(models)


def test_a_device_without_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        OrtDevice(threads=0)


def test_the_runner_describes_its_models(runner: RunnerSession) -> None:
    assert set(runner.description.kernels) == {"abs", "sub", "twice", "endless", "broken"}
    assert runner.description.tick_ns > 0
    assert runner.description.pid != os.getpid()


def test_inputs_hold_their_fill_unless_others_are_given(runner: RunnerSession) -> None:
    filled = runner.run(ABS, {}, (0, 1), 20_000)
    assert isinstance(filled, dict)
    np.testing.assert_array_equal(filled[0], uniform(1, 1.0, (N,)))
    np.testing.assert_array_equal(filled[1], np.abs(uniform(1, 1.0, (N,))))
    given = np.linspace(-3, 2, N, dtype=np.float32)
    outputs = runner.run(ABS, {0: given}, (1,), 20_000)
    assert isinstance(outputs, dict)
    np.testing.assert_array_equal(outputs[1], np.abs(given))


def test_integers_pass_as_integers(runner: RunnerSession) -> None:
    tensors = tuple(Tensor("arena", 8 * N * i, (N,), dtype="int64") for i in range(3))
    workload = Workload(tensors, (KernelCall("sub", (0, 1, 2)),), 24 * N, 0)
    left = np.arange(N) + (1 << 60)
    right = np.arange(N)[::-1] * 3
    outputs = runner.run(workload, {0: left, 1: right}, (2,), 20_000)
    assert isinstance(outputs, dict)
    np.testing.assert_array_equal(outputs[2], left - right)


def test_subnormal_numbers_are_zero_as_in_our_own_runner(runner: RunnerSession) -> None:
    twice = Workload(ABS.tensors, (KernelCall("twice", (0, 1)),), 8 * N, 0)
    outputs = runner.run(twice, {0: np.full(N, 1e-40, np.float32)}, (1,), 20_000)
    assert isinstance(outputs, dict)
    assert not outputs[1].any()


def test_a_model_is_timed_by_the_plan(runner: RunnerSession) -> None:
    plan = TimingPlan(1_000_000, 200_000, 5, True, 20_000)
    timing = runner.time(ABS, plan)
    assert isinstance(timing, Timing)
    assert len(timing.block_ns) == 5
    assert min(timing.block_ns) >= 200_000
    assert timing.n_repeats > 1
    assert timing.tick_ns == runner.description.tick_ns
    assert timing.before.load_1min is not None


def test_every_visit_is_a_new_process_without_threads(runner: RunnerSession) -> None:
    tasks = Path(f"/proc/{runner.description.pid}/task")
    assert len(list(tasks.iterdir())) == 1, "a fork takes one thread along and leaves locks behind"
    assert isinstance(runner.time(ABS, QUICK), Timing)
    children = Path(f"/proc/{runner.description.pid}/task/{runner.description.pid}/children")
    assert children.read_text().split() == []


def test_a_model_that_hangs_is_a_failure_and_the_runner_lives_on(runner: RunnerSession) -> None:
    hanging = Workload(ABS.tensors, (KernelCall("endless", (0, 1)),), 8 * N, 0)
    failure = failure_of(runner.time(hanging, TimingPlan(0, 0, 1, False, 700)))
    assert failure == Failure("timeout", "killed after 700 ms")
    assert isinstance(runner.time(ABS, QUICK), Timing)


@pytest.mark.parametrize(
    ("workload", "reason", "said"),
    [
        (Workload(ABS.tensors, (KernelCall("sin", (0, 1)),), 0, 0), "bad_request", "got sin"),
        (Workload(ABS.tensors, ABS.calls * 2, 0, 0), "bad_request", "got abs, abs"),
        (
            Workload(ABS.tensors, (KernelCall("abs", (0,)),), 0, 0),
            "bad_request",
            "the model has 1 inputs and 1 outputs, the call 1 tensors",
        ),
        (Workload(ABS.tensors, (KernelCall("broken", (0, 1)),), 0, 0), "kernel_error", "broken: "),
        (
            Workload((Tensor("arena", 0, (N + 1,)), RESULT), ABS.calls, 0, 0),
            "kernel_error",
            "Got invalid dimensions for input",
        ),
    ],
)
def test_what_a_model_cannot_take_is_a_failure_that_says_why(
    runner: RunnerSession, workload: Workload, reason: str, said: str
) -> None:
    failure = failure_of(runner.time(workload, QUICK))
    assert failure.reason == reason
    assert said in failure.detail


def test_a_core_that_is_not_there_is_a_bad_request(models: Path) -> None:
    with OrtDevice(core=4000).start(models) as session:
        assert failure_of(session.time(ABS, QUICK)).reason == "bad_request"


def pinned_to(pid: int) -> list[list[int]]:
    """The cores that each thread of a process may use."""
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return sorted(sorted(os.sched_getaffinity(thread)) for thread in threads)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core alone")
def test_each_thread_of_a_model_has_a_core_of_its_own(models: Path) -> None:
    device = OrtDevice(threads=2)
    assert device.fingerprint().runtime.threads == 2
    with device.start(models) as session:
        outputs = session.run(ABS, {}, (0, 1), 20_000)
        assert isinstance(outputs, dict)
        np.testing.assert_array_equal(outputs[1], np.abs(outputs[0]))
        hanging = Workload(ABS.tensors, (KernelCall("endless", (0, 1)),), 8 * N, 0)
        visit = Thread(target=session.time, args=(hanging, TimingPlan(0, 0, 1, False, 6_000)))
        visit.start()
        runner = session.description.pid
        children = Path(f"/proc/{runner}/task/{runner}/children")
        assert wait_until(lambda: bool(children.read_text().split()))
        child = int(children.read_text())
        own = [[core] for core in sorted(device.cores)]
        are_pinned = wait_until(lambda: pinned_to(child) == own, 5)
        visit.join()
    assert are_pinned


def test_a_core_of_another_thread_that_is_not_there_is_a_bad_request(models: Path) -> None:
    command = [sys.executable, "-m", "devices.ort_runner", str(models)]
    with start_runner(command, (min(os.sched_getaffinity(0)), 4000)) as session:
        assert failure_of(session.time(ABS, QUICK)).reason == "bad_request"


def test_the_runner_ends_with_its_session(models: Path) -> None:
    session = OrtDevice().start(models)
    pid = session.description.pid
    session.close()
    assert not Path(f"/proc/{pid}").exists()


def silent_after(models: Path, silence_ms: int) -> list[str]:
    module = [sys.executable, "-m", "devices.ort_runner"]
    return [*module, str(models), "--silence-ms", str(silence_ms)]


def test_beats_pass_while_a_visit_takes_long(models: Path) -> None:
    hanging = Workload(ABS.tensors, (KernelCall("endless", (0, 1)),), 8 * N, 0)
    with start_runner(silent_after(models, 3_000), (), silence_s=3.0) as session:
        failure = failure_of(session.time(hanging, TimingPlan(0, 0, 1, False, 5_000)))
        assert failure.reason == "timeout"
        assert isinstance(session.time(ABS, QUICK), Timing)


def test_a_silent_host_ends_runner_and_visit(models: Path) -> None:
    with mute_host(silent_after(models, 2_000)) as (process, stream):
        stream.write_all(request("describe", 0), LONG_S)
        assert answer_from(stream).message["protocol"] == PROTOCOL_VERSION
        assert process.wait(LONG_S) == 1
        assert process.stderr is not None
        assert b"heard nothing from the host for 2 s" in process.stderr.read()


HOST = """
import sys
from pathlib import Path
from devices.device import KernelCall, Tensor, TimingPlan, Workload
from devices.ort import OrtDevice
session = OrtDevice().start(Path(sys.argv[1]))
print(session.description.pid, flush=True)
tensors = (Tensor("arena", 0, (64,)), Tensor("arena", 256, (64,)))
endless = Workload(tensors, (KernelCall("endless", (0, 1)),), 512, 0)
session.time(endless, TimingPlan(0, 0, 1, False, 600_000))
"""


def test_a_killed_host_leaves_no_process_behind(models: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOST, models], stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        runner = int(host.stdout.readline())
        children = Path(f"/proc/{runner}/task/{runner}/children")
        assert wait_until(lambda: bool(children.read_text().split())), "the visit never began"
        (visit,) = map(int, children.read_text().split())
        host.kill()
    for pid in (visit, runner):
        assert wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists()), f"{pid} lives on"


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> bool:
    end_s = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


def test_a_list_of_models_is_read_as_it_was_written(tmp_path: Path) -> None:
    files = {"a": tmp_path / "one file.onnx", "b": Path("/other")}
    write_model_list(tmp_path / "list.json", files)
    assert read_model_list(tmp_path / "list.json") == files


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', "\0"])
def test_what_is_no_list_of_models_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(ExecutableRefusedError, match="list of"):
        OrtDevice().start(path)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"a": "/no/such/model.onnx"}))
    with pytest.raises(ExecutableRefusedError, match=r"names /no/such/model\.onnx"):
        OrtDevice().start(path)
