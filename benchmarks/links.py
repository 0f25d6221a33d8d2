"""What a board behind an SSH server costs: uploads three ways, visits beside the local device's.

Run as root: `PYTHONPATH=. python benchmarks/links.py`, after `make test-lab` has installed the
servers. The board runs on this machine; the second link adds 10 ms each way. About two minutes.
Each figure is the median of `N_TURNS` turns, in which the ways take turns.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import paramiko

from devices.device import Timing, TimingPlan, Workload
from devices.local import LocalDevice
from devices.session import RunnerSession
from devices.ssh.address import SshAddress
from devices.ssh.connection import SshConnection
from devices.ssh.device import SshDevice
from devices.ssh.host_keys import trust_host_key
from devices.ssh.shell import SshShell
from profiler.link import link_executable
from profiler.target import Target
from tests.lab.board import HOME, USER, Board, make_key
from tests.lab.conftest import Lab, host_key_of, running
from tests.unit.devices.kernels import compile_kernels
from tests.unit.devices.workloads import chain

N_TURNS = 7
N_KERNELS = 100
#: (files, bytes of each): executables of kernels, weights of small kernels.
UPLOADS = ((1, 4_000_000), (20, 30_000))
PLAN = TimingPlan(0, 0, 1, False, 10_000)


@contextmanager
def delayed(board: Board, one_way_ms: float) -> Iterator[int]:
    """A port of this machine that leads to the board, slowly."""
    words = [sys.executable, "-m", "tests.lab.delay", board.ip, "22", str(one_way_ms)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def connect(board: Board, address: SshAddress, folder: Path) -> SshConnection:
    """A connection whose host key is trusted."""
    name = address.host if address.port is None else f"[{address.host}]:{address.port}"
    trust_host_key(folder / "known_hosts", host_key_of(board, name))
    return SshConnection("bench", address, folder / "known_hosts", ssh_folder=folder)


def by_sftp(connection: SshConnection, files: dict[str, bytes]) -> None:
    """Each file through the server's file transfer, with what an upload needs beside it."""
    transport, _ = connection._connect()  # there is no other use of sftp
    with closing(paramiko.SFTPClient.from_transport(transport)) as sftp:
        for name, content in files.items():
            with sftp.open(f"/tmp/{name}.part", "wb") as file:
                file.set_pipelined(True)
                file.write(content)
            sftp.posix_rename(f"/tmp/{name}.part", f"/tmp/{name}")


def by_tar(connection: SshConnection, files: dict[str, bytes]) -> None:
    """One stream for all files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    answer = SshShell(connection).run("cd /tmp && tar -xf -", stream.getvalue(), 60.0)
    assert answer.status == 0


def by_cat(connection: SshConnection, files: dict[str, bytes]) -> None:
    """A stream for each file."""
    for name, content in files.items():
        script = f"cat >/tmp/{name}.part && mv -f /tmp/{name}.part /tmp/{name}"
        assert SshShell(connection).run(script, content, 60.0).status == 0


def time_uploads(connection: SshConnection, link: str) -> None:
    """Print a line for each size and way."""
    rng = np.random.default_rng()
    connection.open()
    for n_files, n_bytes in UPLOADS:
        taken_s: dict[str, list[float]] = {}
        for _ in range(N_TURNS):
            for way in (by_sftp, by_tar, by_cat):
                files = {f"f{i}": rng.bytes(n_bytes) for i in range(n_files)}
                start_s = time.perf_counter()
                way(connection, files)
                taken_s.setdefault(way.__name__, []).append(time.perf_counter() - start_s)
        shown = ", ".join(f"{n} {statistics.median(t) * 1e3:.0f} ms" for n, t in taken_s.items())
        print(f"{link}: {n_files} x {n_bytes} bytes: {shown}")


def visits_s(start: Callable[[], RunnerSession], workloads: list[Workload]) -> float:
    """Wall time of a visit to each workload, the start of the session included."""
    start_s = time.perf_counter()
    with start() as session:
        for timing in session.time_many([(workload, PLAN) for workload in workloads]):
            assert isinstance(timing, Timing), timing
    return time.perf_counter() - start_s


def time_visits(board: Board, connection: SshConnection, link: str, build_folder: Path) -> None:
    """Print how much longer a board takes for the same visits as this machine."""
    target = Target("x86_64-linux-gnu", "generic")
    objects = compile_kernels(build_folder, target, build_folder / "cache", ("add", "twice"))
    workloads = [chain("add"), chain("twice")] * (N_KERNELS // 2)
    executables = [
        link_executable({name: objects[name] for name in names}, target, build_folder / "cache")
        for names in (("add", "twice"), ("twice", "add"))
    ]
    local, device = LocalDevice(), SshDevice(connection, HOME, cores=LocalDevice().cores)
    taken_s: dict[str, list[float]] = {"local": [], "upload and visits": [], "visits": []}
    for turn in range(N_TURNS):
        executable = executables[turn % 2]
        for name in board.files():
            (board.root_of(HOME) / "files" / name).unlink()
        device.files.forget()
        taken_s["local"].append(visits_s(lambda e=executable: local.start(e), workloads))
        for name in ("upload and visits", "visits"):
            taken_s[name].append(visits_s(lambda e=executable: device.start(e), workloads))
    medians = {name: statistics.median(times) for name, times in taken_s.items()}
    shown = ", ".join(f"{name} {taken * 1e3:.0f} ms" for name, taken in medians.items())
    extra_ms = (medians["upload and visits"] - medians["local"]) / N_KERNELS * 1e3
    print(f"{link}: {N_KERNELS} kernels: {shown}; {extra_ms:.2f} ms a kernel more than local")


def main() -> None:
    """Time everything on a board without and with a delay."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab = Lab(folder, make_key(folder / "key"))
        for board in running(lab.board("openssh")):
            near = connect(board, board.address, folder)
            with closing(near):
                time_uploads(near, "no delay")
                time_visits(board, near, "no delay", folder)
            with delayed(board, 10.0) as port:
                address = SshAddress("127.0.0.1", USER, port, key_file=board.key)
                with closing(connect(board, address, folder)) as far:
                    time_uploads(far, "20 ms")
                    time_visits(board, far, "20 ms", folder)


if __name__ == "__main__":
    main()
