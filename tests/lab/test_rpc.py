"""TVM's RPC server behind a real SSH server: this machine is the board, an sshd leads to it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.device import Failure, KernelCall, Tensor, Timing, TimingPlan, Workload
from devices.errors import DeviceUnreachableError, RunnerLostError
from devices.rpc import RpcDevice
from devices.rpc_tunnel import open_tunnel
from devices.ssh.device import SshDevice
from devices.ssh.host_keys import trust_host_key
from profiler.link import link_library
from profiler.target import Target
from tests.unit.devices.kernels import compile_kernels
from tests.unit.devices.rpc import (
    Server,
    free_port,
    is_alive,
    running_server,
    server_command,
    wait_until,
)
from tests.unit.devices.workloads import BYTES, QUICK, N, chain

from .board import make_key
from .this_machine import Way, leading_here

HANG = TimingPlan(0, 0, 1, False, 60_000)


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with leading_here(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(scope="module")
def library(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = Target("x86_64-linux-gnu", "generic")
    names = ("add", "crash", "hang")
    objects = compile_kernels(tmp_path_factory.mktemp("k"), target, build_cache, names)
    return link_library(objects, target, build_cache)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("rpc") / "log") as found:
        yield found


@pytest.fixture
def board(way: Way, tmp_path: Path) -> Iterator[SshDevice]:
    connection = way.connect("lab", tmp_path / "known hosts")
    board = SshDevice(connection, str(tmp_path / "board"), holder="tester", host="lab-host")
    yield board
    board.close()
    wait_until(lambda: not way.sessions())


def test_kernels_run_through_the_tunnel_and_leave_nothing(
    board: SshDevice, server: Server, library: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(np.full(N, 5.0, np.float32).tobytes())
    tensors = (Tensor("arena", 0, (N,)), Tensor("weights", 0, (N,)), Tensor("arena", BYTES, (N,)))
    calls = (KernelCall("add", (0, 1, 2)),)
    workload = Workload(tensors, calls, 2 * BYTES, BYTES, weights)
    with RpcDevice(board, server.port).start(library) as session:
        outputs = session.run(workload, {0: np.arange(N, dtype=np.float32)}, (2,), 30_000)
        crash = session.time(chain("crash"), QUICK)
        timing = session.time(chain("add"), QUICK)
        assert session.description.generation == 1
    assert isinstance(outputs, dict)
    np.testing.assert_array_equal(outputs[2], np.arange(N) + 5)
    assert isinstance(crash, Failure)
    assert isinstance(timing, Timing)
    assert not is_alive(session.description.pid)


def test_a_server_is_started_for_a_session_and_ends_with_it(
    board: SshDevice, library: Path
) -> None:
    port = free_port()
    command = "exec " + shlex.join(server_command(port))
    with RpcDevice(board, port, command).start(library) as session:
        assert isinstance(session.time(chain("add"), QUICK), Timing)
        assert _started(port)
    wait_until(lambda: not _started(port))
    assert not is_alive(session.description.pid)


def test_a_server_that_cannot_start_is_named_with_its_words(
    board: SshDevice, library: Path
) -> None:
    device = RpcDevice(board, free_port(), f"{sys.executable} -c 'exit(\"no such thing\")'")
    with pytest.raises(DeviceUnreachableError, match=r"^lab: (.|\n)*no such thing"):
        device.start(library)


def test_where_no_server_listens_the_message_says_how_to_start_one(
    board: SshDevice, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.rpc.CONNECT_S", 0.5)
    with pytest.raises(DeviceUnreachableError, match=r"^lab: .*tvm\.exec\.rpc_server --host"):
        RpcDevice(board, free_port()).start(library)


def test_the_tunnel_goes_through_jump_hosts(
    way: Way, server: Server, library: Path, tmp_path: Path
) -> None:
    port = way.address.port
    jump, known_hosts = f"{way.address.user}@localhost:{port}", tmp_path / "known_hosts"
    for name in (f"[localhost]:{port}", f"[127.0.0.1]:{port}/via/[localhost]:{port}"):
        trust_host_key(known_hosts, replace(way.host_key, name=name))
    (tmp_path / "ssh").mkdir()
    config = f"Host localhost\n  IdentityFile {way.address.key_file}\n"
    (tmp_path / "ssh/config").write_text(config, encoding="ascii")
    address = replace(way.address, jump=jump)
    with closing(way.connect("lab", known_hosts, address)) as connection:
        board = SshDevice(connection, str(tmp_path / "board"))
        with RpcDevice(board, server.port).start(library) as session:
            assert isinstance(session.time(chain("add"), QUICK), Timing)
    wait_until(lambda: not way.sessions())


def test_the_tunnel_takes_no_other_host_key(way: Way, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    hops = way.connect("lab", tmp_path / "others").hops()
    with pytest.raises(DeviceUnreachableError, match=r"(?s)lab: .*Host key verification failed"):
        open_tunnel("lab", hops, known_hosts, 9090)
    make_key(tmp_path / "other")
    kind, base64 = (tmp_path / "other.pub").read_text(encoding="ascii").split()[:2]
    trust_host_key(known_hosts, replace(way.host_key, kind=kind, base64=base64))
    with pytest.raises(DeviceUnreachableError, match=r"(?s)lab: .*Host key verification failed"):
        open_tunnel("lab", hops, known_hosts, 9090)
    wait_until(lambda: not way.sessions())


def test_a_server_that_dies_is_a_lost_runner(
    board: SshDevice, library: Path, tmp_path: Path
) -> None:
    with running_server(tmp_path / "log") as own:
        session = RpcDevice(board, own.port).start(library)
        killer = threading.Timer(1.0, own.kill)
        killer.start()
        with pytest.raises(RunnerLostError, match=r"^lab: .*TVM's RPC server is gone"):
            session.time(chain("hang"), HANG)
        killer.join()
    wait_until(lambda: not is_alive(session.description.pid))


def test_a_link_that_falls_silent_ends_the_runner_and_frees_the_server(
    way: Way, server: Server, library: Path, board: SshDevice
) -> None:
    """The SSH server stops as a machine does behind a cut cable: nothing closes."""
    quick = SshDevice(board.connection, board.folder, silence_s=4.0)
    session = RpcDevice(quick, server.port).start(library)
    stopped = way.sessions()
    stopper = threading.Timer(1.0, _signal_all, (stopped, signal.SIGSTOP))
    stopper.start()
    try:
        with pytest.raises(RunnerLostError, match=r"^lab: heard nothing of the runner for 4 s"):
            session.time(chain("hang"), HANG)
        wait_until(lambda: not is_alive(session.description.pid))
        wait_until(lambda: server.n_clients() == 0)
    finally:
        stopper.join()
        _signal_all(stopped, signal.SIGCONT)
    with RpcDevice(board, server.port).start(library) as another:
        assert isinstance(another.time(chain("add"), QUICK), Timing)


def _signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _started(port: int) -> list[Path]:
    """Processes of a server that was started for a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"tvm.exec.rpc_server" in words and str(port).encode() in words:
            found.append(path)
    return found
