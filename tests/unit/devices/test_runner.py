from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.device import Conditions, Failure, Fill, Tensor, Timing, TimingPlan
from devices.errors import RunnerLostError
from devices.fill import uniform
from devices.local import LocalDevice
from devices.session import RunnerSession

from .throttled import BOARD, QUOTAS, write_tree
from .workloads import BYTES, QUICK, N, chain


def wait_until(is_true: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_true()


def processes_of(executable: Path) -> set[int]:
    """Live processes that run this executable, whoever started them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "exe").readlink() == executable:
                found.add(int(path.name))
        except OSError:
            continue
    return found


def own_copy(executable: Path, folder: Path) -> Path:
    copy = folder / "runner"
    copy.write_bytes(executable.read_bytes())
    copy.chmod(0o755)
    return copy


def failure(result: object) -> Failure:
    assert isinstance(result, Failure)
    return result


def timing(result: object) -> Timing:
    assert isinstance(result, Timing)
    return result


def outputs(result: object) -> dict[int, np.ndarray]:
    assert isinstance(result, dict), result
    return result


def test_run_computes_with_uploaded_inputs(runner: RunnerSession) -> None:
    a = np.linspace(-3, 3, N, dtype=np.float32)
    b = np.linspace(5, 7, N, dtype=np.float32)
    result = outputs(runner.run(chain("add"), {1: b, 0: a}, (2, 0), 10_000))
    np.testing.assert_array_equal(result[2], a + b)
    np.testing.assert_array_equal(result[0], a)


@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (2**64 - 1, 0.3), (12345, 1e-3)])
def test_tensors_are_filled_with_the_same_bits_as_on_the_host(
    runner: RunnerSession, seed: int, scale: float
) -> None:
    tensors = (
        Tensor("arena", 0, (3, 5, 7), Fill(seed, scale)),
        Tensor("weights", 64, (N,), Fill(seed + 1 if seed < 9**9 else 5, scale)),
        Tensor("arena", 1024, (N,)),
    )
    workload = replace(chain("print"), tensors=tensors, arena_bytes=2048, weight_bytes=512)
    result = outputs(runner.run(workload, {}, (0, 1, 2), 10_000))
    np.testing.assert_array_equal(
        result[0].view(np.uint32), uniform(seed, scale, (3, 5, 7)).view(np.uint32)
    )
    assert tensors[1].fill is not None
    np.testing.assert_array_equal(result[1], uniform(tensors[1].fill.seed, scale, (N,)))
    assert not result[2].any()


def test_calls_run_in_order(runner: RunnerSession) -> None:
    result = outputs(runner.run(chain("negate", "twice"), {}, (2,), 10_000))
    np.testing.assert_array_equal(result[2], 2 * uniform(1, 1.0, (N,)))
    result = outputs(runner.run(chain("twice", "negate"), {}, (2,), 10_000))
    np.testing.assert_array_equal(result[2], -uniform(1, 1.0, (N,)))


def test_a_workspace_is_given_out_again_at_every_call(runner: RunnerSession) -> None:
    assert timing(runner.time(chain("twice"), QUICK)).n_repeats > 1


def test_a_kernel_sees_arguments_as_tvm_passes_them(runner: RunnerSession) -> None:
    result = outputs(runner.run(chain("describe", n_arguments=1), {}, (0,), 10_000))
    # 1 argument; kTVMFFIDLTensorPtr; 1 dimension; kDLCPU; kDLFloat, 32 bits, 1 lane; aligned
    assert result[0][:8].tolist() == [1, 7, 1, 1, 2, 32, 1, 0]


def test_weights_come_from_a_file(runner: RunnerSession, tmp_path: Path) -> None:
    weights = np.arange(N, dtype=np.float32)
    file = tmp_path / "weights"
    file.write_bytes(weights.tobytes())
    plain = chain("add")
    tensors = (plain.tensors[0], Tensor("weights", 0, (N,)), plain.tensors[2])
    workload = replace(plain, tensors=tensors, weights_file=file)
    result = outputs(runner.run(workload, {}, (2,), 10_000))
    np.testing.assert_array_equal(result[2], uniform(1, 1.0, (N,)) + weights)
    file.write_bytes(b"short")
    said = failure(runner.run(workload, {}, (2,), 10_000))
    assert said.reason == "bad_request"
    assert f"got 5 of {BYTES} bytes" in said.detail


def test_subnormals_are_flushed(runner: RunnerSession) -> None:
    smallest = np.full(N, np.finfo(np.float32).tiny)
    result = outputs(runner.run(chain("subnormal"), {0: smallest}, (2,), 10_000))
    assert result[2][0] == 0


FAILING = {
    "crash": ("crash", "signal 11 (Segmentation fault) in call 1, kernel crash"),
    "overrun": ("crash", "signal 11"),
    "leave": ("crash", "exited with status 3 and no answer in call 1, kernel leave"),
    "hang": ("timeout", "killed after 300 ms in call 1, kernel hang"),
    "refuse": ("kernel_error", 'call 1, kernel refuse: ValueError: expects a "square" tensor'),
    "call_packed": ("kernel_error", "packed function"),
    "be_killed": ("out_of_memory", "killed from outside"),
    "take_workspaces": ("out_of_memory", "MemoryError: no room for a workspace of 16777216 bytes"),
    "take_memory": ("out_of_memory", "with all memory taken that it may have in call 1, kernel"),
    "fill_disk": ("crash", "signal 25 (File size limit exceeded) in call 1, kernel fill_disk"),
    "print_on_and_on": ("crash", "signal 25 (File size limit exceeded)"),
    "missing": ("bad_request", "call 1: the executable has no kernel missing"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_kernel_is_a_typed_failure_and_the_batch_goes_on(
    runner: RunnerSession, name: str
) -> None:
    timeout_ms = 300 if FAILING[name][0] == "timeout" else 20_000
    bad = (chain("add", name), replace(QUICK, timeout_ms=timeout_ms))
    good = (chain("add"), QUICK)
    first, second, third, fourth = runner.time_many([good, bad, bad, good])
    assert isinstance(first, Timing)
    assert isinstance(fourth, Timing)
    for result in (second, third, runner.run(bad[0], {}, (2,), timeout_ms)):
        assert failure(result).reason == FAILING[name][0]
        assert FAILING[name][1] in failure(result).detail


def test_a_kernel_may_open_some_files_and_run_beyond_its_time_out_by_a_little(
    runner: RunnerSession,
) -> None:
    opened = outputs(runner.run(chain("open_files", n_arguments=1), {}, (0,), 10_000))
    assert 32 <= opened[0][0] <= 64
    found = outputs(runner.run(chain("find_limits", n_arguments=1), {}, (0,), 7_000))
    assert found[0][:2].tolist() == [0, 17]  # no core files; seconds of processor time


def test_a_kernel_that_prints_does_not_disturb_the_frames(runner: RunnerSession) -> None:
    assert isinstance(runner.time(chain("print", n_arguments=1), QUICK), Timing)
    assert isinstance(runner.time(chain("add"), QUICK), Timing)


def test_more_memory_than_the_board_has_is_out_of_memory(runner: RunnerSession) -> None:
    said = failure(runner.time(replace(chain("add"), arena_bytes=2**40), QUICK))
    assert said.reason == "out_of_memory"
    assert str(2**40 + BYTES) in said.detail


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (Tensor("arena", 4, (N,)), "tensor 0: offset must be a multiple of 64"),
        (Tensor("arena", 64 * 5, (N,)), "256 bytes at 320 do not fit in the arena of 512 bytes"),
        (Tensor("arena", 2**60, (1,)), "do not fit"),
        (Tensor("arena", 0, (2**30, 2**30, 2**30)), "tensor 0: shape"),
        (Tensor("arena", 0, (0,)), "tensor 0: shape"),
        (Tensor("arena", 0, (1,) * 9), "tensor 0: shape"),
        (Tensor("arena", 0, (N,), Fill(2**64, 1.0)), "tensor 0: fill"),
        (Tensor("arena", 0, (N,), Fill(-1, 1.0)), "tensor 0: fill"),
    ],
)
def test_a_tensor_outside_the_rules_is_a_bad_request(
    runner: RunnerSession, change: Tensor, rule: str
) -> None:
    workload = chain("add")
    workload = replace(workload, tensors=(change, *workload.tensors[1:]))
    said = failure(runner.time(workload, QUICK))
    assert said.reason == "bad_request"
    assert rule in said.detail


def test_a_core_that_does_not_exist_is_a_bad_request(executable: Path) -> None:
    with LocalDevice(core=1000).start(executable) as runner:
        said = failure(runner.time(chain("add"), QUICK))
    assert said.reason == "bad_request"
    assert "core 1000" in said.detail


def test_timing_returns_the_blocks_asked_for_each_long_enough(runner: RunnerSession) -> None:
    plan = TimingPlan(1_000_000, 2_000_000, 7, False, 20_000)
    result = timing(runner.time(chain("add"), plan))
    assert len(result.block_ns) == 7
    assert min(result.block_ns) >= 2_000_000
    assert result.call_ns is None
    assert result.n_preemptions >= 0


def test_a_block_is_never_shorter_than_a_thousand_ticks(runner: RunnerSession) -> None:
    result = timing(runner.time(chain("add"), replace(QUICK, n_blocks=3)))
    assert result.tick_ns == runner.description.tick_ns > 0
    assert min(result.block_ns) >= 1000 * result.tick_ns


@pytest.mark.parametrize(("n_blocks", "n_most"), [(1, 200), (5, 200), (300, 200)])
def test_timestamps_have_a_row_a_repetition_and_a_column_a_call(
    runner: RunnerSession, n_blocks: int, n_most: int
) -> None:
    plan = TimingPlan(0, 50_000, n_blocks, True, 20_000)
    result = timing(runner.time(chain("add", "negate", "twice"), plan))
    assert len(result.block_ns) == n_blocks
    assert result.call_ns is not None
    n_rows, n_calls = result.call_ns.shape
    assert n_calls == 3
    assert 1 <= n_rows <= n_most
    assert n_rows == min(n_most, n_blocks * min(max(n_most // n_blocks, 1), result.n_repeats))
    assert result.call_ns.dtype == np.int64
    assert (result.call_ns >= 0).all()
    assert result.call_ns.sum() > 0


def test_answers_come_in_order_however_many_are_under_way(runner: RunnerSession) -> None:
    long_chain = chain(*["add"] * 400)  # its request is longer than what is sent ahead
    items = [(chain(*["add"] * (1 + i % 3)), replace(QUICK, n_blocks=1 + i)) for i in range(30)]
    items.insert(11, (long_chain, replace(QUICK, n_blocks=77, with_timestamps=True)))
    results = list(runner.time_many(items))
    assert [len(timing(r).block_ns) for r in results] == [plan.n_blocks for _, plan in items]


def test_a_batch_can_be_left_early(runner: RunnerSession) -> None:
    batch = runner.time_many([(chain("add"), replace(QUICK, n_blocks=b)) for b in range(1, 9)])
    assert len(timing(next(batch)).block_ns) == 1
    assert len(timing(runner.time(chain("add"), replace(QUICK, n_blocks=50))).block_ns) == 50
    with pytest.raises(RuntimeError, match="another request"):
        next(batch)
    assert len(timing(runner.time(chain("add"), replace(QUICK, n_blocks=51))).block_ns) == 51


def test_a_hang_leaves_no_process_of_its_group(executable: Path, tmp_path: Path) -> None:
    copy = own_copy(executable, tmp_path)
    with LocalDevice().start(copy) as runner:
        said = failure(runner.time(chain("hang_with_child"), replace(QUICK, timeout_ms=300)))
        assert said.reason == "timeout"
        assert wait_until(lambda: processes_of(copy) == {runner.description.pid})
    assert wait_until(lambda: not processes_of(copy))


HOST = """
import sys
from dataclasses import replace
from pathlib import Path
from devices.local import LocalDevice
from tests.unit.devices.workloads import QUICK, chain
runner = LocalDevice().start(Path(sys.argv[1]))
print("ready", flush=True)
runner.time(chain(sys.argv[2]), replace(QUICK, timeout_ms=600_000))
"""


@pytest.mark.parametrize("kernel", ["hang", "hang_with_child"])
def test_no_process_outlives_a_killed_host(executable: Path, tmp_path: Path, kernel: str) -> None:
    copy = own_copy(executable, tmp_path)
    command = [sys.executable, "-c", HOST, str(copy), kernel]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        n_expected = 3 if kernel == "hang_with_child" else 2
        assert wait_until(lambda: len(processes_of(copy)) == n_expected)
        host.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not processes_of(copy))


def test_children_die_with_a_killed_runner(executable: Path, tmp_path: Path) -> None:
    copy = own_copy(executable, tmp_path)
    command = [sys.executable, "-c", HOST, str(copy), "hang"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as host:
        assert wait_until(lambda: len(processes_of(copy)) == 2)
        for pid in processes_of(copy):
            if os.getpgid(pid) == os.getsid(pid):  # the runner leads its session
                os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not processes_of(copy))
        _, said = host.communicate()
    assert b"RunnerLostError: the runner closed the stream" in said


def test_a_lost_runner_is_reported_by_every_later_call(executable: Path) -> None:
    runner = LocalDevice().start(executable)
    os.kill(runner.description.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(RunnerLostError):
            runner.time(chain("add"), QUICK)
    runner.close()


def test_closing_twice_is_harmless_and_ends_the_runner(executable: Path, tmp_path: Path) -> None:
    copy = own_copy(executable, tmp_path)
    runner = LocalDevice().start(copy)
    runner.close()
    runner.close()
    assert not processes_of(copy)
    with pytest.raises(RunnerLostError, match="closed"):
        runner.time(chain("add"), QUICK)


def test_conditions_are_read_from_the_tree_that_is_given(executable: Path, tmp_path: Path) -> None:
    files = BOARD | {
        "proc/loadavg": "0.52 0.3 0.1 1/234 5678\n",
        "proc/stat": "cpu  1 2 3 4 5 6 7 89 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
        "intr 5 0\nprocs_running 3\nprocs_blocked 0\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1400500\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone2/temp": "52500\n",
    }
    write_tree(tmp_path, files)
    with LocalDevice(core=0, root=tmp_path).start(executable) as runner:
        result = timing(runner.time(chain("add"), QUICK))
    assert (
        result.before
        == result.after
        == Conditions(0.52, 3, 89, 1400.5, 52.5, 7, 0x50005, "ondemand")
    )


@pytest.mark.parametrize(("files", "n_events"), QUOTAS)
def test_a_quota_of_processor_time_is_counted_where_heat_is_not(
    executable: Path, tmp_path: Path, files: dict[str, str], n_events: int | None
) -> None:
    write_tree(tmp_path, files)
    with LocalDevice(root=tmp_path).start(executable) as runner:
        assert timing(runner.time(chain("add"), QUICK)).after.throttle_events == n_events


def test_conditions_that_the_board_does_not_tell_are_none(executable: Path, tmp_path: Path) -> None:
    with LocalDevice(root=tmp_path).start(executable) as runner:
        assert runner.description.boot_id == ""
        result = timing(runner.time(chain("add"), QUICK))
    assert result.before == Conditions(None, None, None, None, None)


def test_the_runner_describes_itself(
    runner: RunnerSession, kernel_objects: dict[str, Path]
) -> None:
    said = runner.description
    assert set(said.kernels) == set(kernel_objects)
    assert said.page_bytes == os.sysconf("SC_PAGESIZE")
    assert said.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("inputs", [{0: np.zeros(3, np.float32)}, {9: np.zeros(N, np.float32)}])
def test_wrong_inputs_are_the_callers_bug(
    runner: RunnerSession, inputs: dict[int, np.ndarray]
) -> None:
    with pytest.raises(ValueError, match="must"):
        runner.run(chain("add"), inputs, (2,), 1000)
