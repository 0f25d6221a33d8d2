"""A real TVM RPC server in processes of its own, on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devices.rpc_start import RpcServer, start_in
from devices.session import RunnerSession

#: Of the host alone: the runner is more patient, lest a busy machine end it.
SILENCE_MS = 3000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_command(port: int) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
    return [sys.executable, "-m", "tvm.exec.rpc_server", *where]


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        port: Of 127.0.0.1.
        process: Leads the group of all its processes.
    """

    port: int
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def n_clients(self) -> int:
        """Connections that it serves, or lets wait."""
        return sum(line[1] == _place(self.port) and line[3] == "01" for line in _tcp())

    def start(self, library: Path, *arguments: str, connect_s: float = 60.0) -> RunnerSession:
        """A session through the server, which is lost after `SILENCE_MS` without a byte."""
        server = RpcServer(self.port, self.port, connect_s, "bench: TVM's RPC server", "start it")
        stream, end = start_in(server, library, ["--silence-ms", "20000", *arguments])
        return RunnerSession(stream, (), end, silence_s=SILENCE_MS / 1000, name="bench")


@contextmanager
def running_server(log: Path) -> Iterator[Server]:
    port = free_port()
    with log.open("wb") as words:
        process = subprocess.Popen(
            server_command(port), stdout=words, stderr=words, start_new_session=True
        )
    server = Server(port, process)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        if process.poll() is None:
            server.kill()


def wait_until(holds: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is not only waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rpartition(") ")[2][:1] not in {"Z", "X"}


def listens(port: int) -> bool:
    """Whether something waits for connections at this port of 127.0.0.1."""
    return any(line[1] == _place(port) and line[3] == "0A" for line in _tcp())


def _place(port: int) -> str:
    return f"0100007F:{port:04X}"


def _tcp() -> list[list[str]]:
    """Own address, the other's, state and more of each socket."""
    text = Path("/proc/net/tcp").read_text(encoding="ascii")
    return [line.split() for line in text.splitlines()[1:]]
