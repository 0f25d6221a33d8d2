"""Runners that take leases, as a board's hosts start them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devices.lease import LeaseRecord, lease_arguments, parse_lease
from devices.local import start_runner
from devices.messages import plan_message, workload_message
from devices.protocol import Frame, PipeStream, encode_frame, read_frame
from devices.session import RunnerSession

from .workloads import QUICK, chain

#: No runner waits so long for its host in a test that does not mean it to.
LONG_S = 60.0
BEAT = encode_frame(Frame({"op": "beat"}))


def start(
    command: list[str],
    lease: Path,
    holder: str = "ada",
    *,
    steal: bool = False,
    silence_s: float = LONG_S,
) -> RunnerSession:
    """A session under a lease, with heartbeats."""
    arguments = lease_arguments(str(lease), holder, "bench", steal=steal)
    silence = ["--silence-ms", str(round(silence_s * 1000))]
    return start_runner([*command, *silence, *arguments], (), silence_s=silence_s, name="rpi4")


def record_of(lease: Path) -> LeaseRecord:
    record = parse_lease(lease.read_text())
    assert record is not None, lease.read_text()
    return record


def wait_until(is_true: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not is_true() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return is_true()


def processes_of(executable: Path) -> set[int]:
    """Live processes that run this executable, or have it as an argument of an emulator."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(executable).encode() in words[:2]:
            found.add(int(path.name))
    return found


def own_copy(executable: Path, folder: Path) -> Path:
    copy = folder / "runner"
    copy.write_bytes(executable.read_bytes())
    copy.chmod(0o755)
    return copy


def request(op: str, request_id: int, kernel: str = "", timeout_ms: int = 600_000) -> bytes:
    message: dict[str, object] = {"op": op, "id": request_id}
    if kernel:
        workload = workload_message(chain(kernel))
        message |= {"workload": workload, "plan": plan_message(QUICK), "timeout_ms": timeout_ms}
    return encode_frame(Frame(message))


@contextmanager
def mute_host(
    command: list[str], user: int | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], PipeStream]]:
    """A runner whose host sends no beats but what the test writes."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, user=user
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stream = PipeStream(os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno()))
    process.stdin.close()
    process.stdout.close()
    try:
        yield process, stream
    finally:
        stream.close()
        process.wait(LONG_S)
        if process.stderr is not None:
            process.stderr.close()


def answer_from(stream: PipeStream) -> Frame:
    return read_frame(stream, LONG_S)
