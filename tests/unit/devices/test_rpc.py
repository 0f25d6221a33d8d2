from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from devices.device import Failure, KernelCall, Tensor, Timing, TimingPlan, Workload
from devices.errors import (
    DeviceUnreachableError,
    ExecutableRefusedError,
    LeaseHeldError,
    RunnerLostError,
)
from devices.fill import uniform
from devices.local import start_runner
from devices.rpc_client import FrameCounter
from devices.rpc_start import RpcServer, start_in
from devices.session import RunnerSession
from profiler.link import link_library
from profiler.target import Target

from .rpc import SILENCE_MS, Server, free_port, is_alive, running_server, wait_until
from .workloads import QUICK, N, chain

pytestmark = pytest.mark.lab

HANG = chain("hang")


@pytest.fixture(scope="module")
def library(kernel_objects: dict[str, Path], host_target: Target, build_cache: Path) -> Path:
    return link_library(kernel_objects, host_target, build_cache)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("rpc") / "log") as found:
        yield found


def expected() -> np.ndarray:
    return uniform(1, 1.0, (N,)) + uniform(2, 1.0, (N,))


@pytest.fixture(scope="class")
def session(server: Server, library: Path) -> Iterator[RunnerSession]:
    with server.start(library) as found:
        yield found
    assert not is_alive(found.description.pid)


class TestOneSession:
    """What a session does while all goes well on the way to it."""

    def test_kernels_run_and_are_timed_inside_the_server(self, session: RunnerSession) -> None:
        outputs = session.run(chain("add"), {}, (2,), 10_000)
        timing = session.time(chain("add", "twice"), TimingPlan(0, 100_000, 3, True, 10_000))
        assert isinstance(outputs, dict)
        np.testing.assert_array_equal(outputs[2], expected())
        assert isinstance(timing, Timing)
        assert len(timing.block_ns) == 3
        assert min(timing.block_ns) >= 100_000 / 2
        assert timing.call_ns is not None
        assert timing.call_ns.shape[1] == 2

    def test_a_kernel_that_fails_leaves_the_runner_alive(self, session: RunnerSession) -> None:
        quick = TimingPlan(0, 0, 1, False, 300)
        kernels = ("crash", "refuse", "leave", "hang", "call_packed", "add")
        found = list(session.time_many([(chain(name), quick) for name in kernels]))
        reasons = [each.reason if isinstance(each, Failure) else "none" for each in found]
        assert reasons == ["crash", "kernel_error", "crash", "timeout", "kernel_error", "none"]
        assert isinstance(found[1], Failure)
        assert 'expects a "square" tensor' in found[1].detail

    def test_megabytes_pass_both_ways(self, session: RunnerSession) -> None:
        n = 3 << 20
        tensors = (Tensor("arena", 0, (n,)), Tensor("arena", 4 * n, (n,)))
        workload = Workload(tensors, (KernelCall("twice", (0, 1)),), 8 * n, 64)
        given = np.arange(n, dtype=np.float32)
        outputs = session.run(workload, {0: given}, (1,), 60_000)
        assert isinstance(outputs, dict)
        np.testing.assert_array_equal(outputs[1], 2 * given)

    def test_heartbeats_are_answered_while_a_kernel_runs(self, session: RunnerSession) -> None:
        outcome = session.time(HANG, TimingPlan(0, 0, 1, False, 2 * SILENCE_MS))
        assert isinstance(outcome, Failure)
        assert outcome.reason == "timeout"


def test_a_lease_that_is_held_is_refused(
    server: Server, library: Path, executable: Path, tmp_path: Path
) -> None:
    lease = ["--lease", str(tmp_path / "lease"), "--host", "here"]
    with start_runner([str(executable), *lease, "--holder", "first"], ()) as holder:
        with pytest.raises(LeaseHeldError, match="bench: first on here"):
            server.start(library, *lease, "--holder", "second")
        assert isinstance(holder.time(chain("add"), QUICK), Timing)
    with server.start(library, *lease, "--holder", "second") as session:
        assert session.description.generation > holder.description.generation


def test_a_dead_client_ends_the_runner_and_frees_the_server(server: Server, library: Path) -> None:
    session = server.start(library)
    client = next(pid for pid in _children(os.getpid()) if b"rpc_client" in _words(pid))
    killer = threading.Timer(1.0, os.kill, (client, signal.SIGKILL))
    killer.start()
    with pytest.raises(RunnerLostError, match=r"^bench: "):
        session.time(HANG, TimingPlan(0, 0, 1, False, 60_000))
    killer.join()
    wait_until(lambda: not is_alive(session.description.pid))
    with server.start(library) as another:
        assert isinstance(another.time(chain("add"), QUICK), Timing)


def test_a_dead_server_is_a_lost_runner_that_leaves_nothing(library: Path, tmp_path: Path) -> None:
    with running_server(tmp_path / "log") as own:
        session = own.start(library)
        killer = threading.Timer(1.0, own.kill)
        killer.start()
        with pytest.raises(RunnerLostError, match=r"^bench: .*TVM's RPC server is gone"):
            session.time(HANG, TimingPlan(0, 0, 1, False, 60_000))
        killer.join()
        wait_until(lambda: not is_alive(session.description.pid))
        with pytest.raises(RunnerLostError):
            session.time(chain("add"), QUICK)


def test_what_is_no_library_is_refused(server: Server, executable: Path) -> None:
    with pytest.raises(ExecutableRefusedError, match=r"bench: TVM's RPC server: Failed to load"):
        server.start(executable)


def test_a_server_that_does_not_answer_is_named_with_what_to_do(
    server: Server, library: Path
) -> None:
    nobody = RpcServer(free_port(), 1, 0.1, "bench: TVM's RPC server", "start it like this")
    with pytest.raises(DeviceUnreachableError, match=r"bench: .*start it like this"):
        start_in(nobody, library, [])
    with (
        server.start(library),
        pytest.raises(DeviceUnreachableError, match="one session at a time"),
    ):
        server.start(library, connect_s=2.0)


@pytest.mark.parametrize("n_bytes", [1, 3, 8, 9, 1000])
def test_frames_are_counted_however_they_are_cut(n_bytes: int) -> None:
    frames = [b"\2\0\0\0\0\0\0\0{}", b"\2\0\0\0\5\0\0\0{}abcde", b"\3\0\0\0\1\0\0\0{ }x"]
    stream = b"".join(frames)
    counter, ends = FrameCounter(), np.cumsum([len(frame) for frame in frames])
    for at in range(0, len(stream), n_bytes):
        counter.feed(stream[at : at + n_bytes])
        assert counter.n_frames == np.searchsorted(ends, min(at + n_bytes, len(stream)), "right")
    assert counter.n_frames == 3


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in tasks for word in path.read_text(encoding="ascii").split()]


def _words(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
