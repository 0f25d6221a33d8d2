"""Tasks of parallel kernels on the runner's pinned threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.device import Failure, Timing
from devices.local import LocalDevice, start_runner
from devices.session import RunnerSession

from .workloads import QUICK, N, chain, some_cores

N_CORES = len(os.sched_getaffinity(0))


@pytest.fixture(params=[1, 2, 3])
def n_threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def threaded(n_threads: int, executable: Path) -> Iterator[RunnerSession]:
    """A runner with so many threads, some on one core where there are not enough."""
    with start_runner([str(executable)], some_cores(n_threads)) as session:
        yield session


def output(runner: RunnerSession, kernel: str) -> np.ndarray:
    zeros = np.zeros(N, np.float32)
    result = runner.run(chain(kernel, n_arguments=1), {0: zeros}, (0,), 20_000)
    assert isinstance(result, dict), result
    return result[0]


def test_each_of_many_tasks_runs_once_and_knows_how_many_there_are(
    threaded: RunnerSession,
) -> None:
    assert output(threaded, "tasks_of_64").tolist() == [64.0] * 64


def test_fewer_tasks_than_threads_leave_threads_without_one(threaded: RunnerSession) -> None:
    assert output(threaded, "one_task").tolist() == [1.0] + [0.0] * 63


def test_there_is_a_task_for_each_thread_and_each_runs_on_its_core(
    threaded: RunnerSession, n_threads: int
) -> None:
    found = output(threaded, "task_of_each_thread").reshape(-1, 2)[:n_threads]
    assert found[:, 0].tolist() == list(some_cores(n_threads))
    assert found[:, 1].tolist() == [n_threads] * n_threads


def test_kernels_divide_their_work_by_the_threads(threaded: RunnerSession) -> None:
    values = np.arange(N, dtype=np.float32)
    result = threaded.run(chain("negate"), {0: values}, (2,), 20_000)
    assert isinstance(result, dict)
    np.testing.assert_array_equal(result[2], -values)


def test_a_launch_is_over_when_all_its_tasks_are(threaded: RunnerSession) -> None:
    workload = chain("many_launches", n_arguments=1)
    assert isinstance(threaded.time(workload, replace(QUICK, timeout_ms=60_000)), Timing)


def test_what_a_late_thread_would_do_is_done_by_the_one_that_calls(executable: Path) -> None:
    (core,) = some_cores(1)
    with start_runner([str(executable)], (core, core, core)) as runner:
        workload = chain("many_launches", n_arguments=1)
        # 4,000 launches at the least: with a turn of the scheduler for each, minutes.
        assert isinstance(runner.time(workload, replace(QUICK, timeout_ms=20_000)), Timing)


def test_threads_that_went_to_sleep_are_woken(executable: Path) -> None:
    with start_runner([str(executable)], some_cores(2)) as runner:
        plan = replace(QUICK, min_block_ns=20_000_000, n_blocks=3)
        workload = chain("nap", "negate", "nap", "negate")
        assert isinstance(runner.time(workload, plan), Timing)


def test_tasks_may_wait_for_each_other_when_all_run_at_once(
    threaded: RunnerSession, n_threads: int
) -> None:
    expected = [10.0 + (task + 1) % n_threads for task in range(n_threads)]
    assert output(threaded, "barriers").tolist()[:n_threads] == expected
    result = threaded.time(chain("barrier_of_64", n_arguments=1), QUICK)
    assert isinstance(result, Failure)
    assert result.reason == "kernel_error"
    assert "more tasks wait for each other than there are threads" in result.detail


def test_tasks_have_workspaces_of_their_own(threaded: RunnerSession, n_threads: int) -> None:
    found = output(threaded, "workspace_in_task")
    assert found[:n_threads].tolist() == [4096.0 * (task + 1) for task in range(n_threads)]


def test_a_launch_inside_of_a_task_runs_there(threaded: RunnerSession, n_threads: int) -> None:
    found = output(threaded, "launch_in_task").reshape(8, 8)
    for task in range(n_threads):
        assert found[task].tolist() == [task + 1.0] * (task + 1) + [0.0] * (7 - task)


def test_subnormals_are_flushed_in_every_task(threaded: RunnerSession) -> None:
    assert not output(threaded, "subnormal_in_task").any()


FAILING = {
    "crash_in_task": ("crash", "signal 11 (Segmentation fault) in call 1, kernel crash_in_task"),
    "hang_in_task": ("timeout", "killed after 300 ms in call 1, kernel hang_in_task"),
    "refuse_in_task": (
        "kernel_error",
        "call 1, kernel refuse_in_task: ValueError: not for task 1",
    ),
}


@pytest.mark.parametrize("kernel", FAILING)
def test_what_fails_in_a_task_of_another_thread_is_a_typed_failure(
    executable: Path, kernel: str
) -> None:
    with start_runner([str(executable)], some_cores(2)) as runner:
        for _ in range(2):
            result = runner.time(chain("add", kernel), replace(QUICK, timeout_ms=300))
            assert isinstance(result, Failure)
            assert result.reason == FAILING[kernel][0]
            assert FAILING[kernel][1] in result.detail
        assert isinstance(runner.time(chain("add", "negate"), QUICK), Timing)


def test_a_core_of_another_thread_that_does_not_exist_is_a_bad_request(executable: Path) -> None:
    with start_runner([str(executable)], (*some_cores(1), 1000)) as runner:
        result = runner.time(chain("add"), QUICK)
    assert isinstance(result, Failure)
    assert result.reason == "bad_request"
    assert "cannot run a thread on core 1000" in result.detail


def test_no_thread_is_left_between_visits(executable: Path) -> None:
    with start_runner([str(executable)], some_cores(2)) as runner:
        assert isinstance(runner.time(chain("negate"), QUICK), Timing)
        tasks = Path(f"/proc/{runner.description.pid}/task")
        assert len(list(tasks.iterdir())) == 1
        before = process_s(runner.description.pid)
        time.sleep(0.3)
        assert process_s(runner.description.pid) - before < 0.1


def process_s(pid: int) -> float:
    """Processor time of a process and of its children that ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(N_CORES < 2, reason="there is one core alone")
def test_a_device_of_two_threads_starts_its_runner_with_two(executable: Path) -> None:
    device = LocalDevice(threads=2)
    with device.start(executable) as runner:
        found = output(runner, "task_of_each_thread").reshape(-1, 2)
    assert found[:2, 0].tolist() == list(device.cores)
