from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.device import Failure
from devices.forked import run_forked
from devices.inbox import HostGoneError, Inbox
from devices.protocol import PipeStream

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

LONG_MS = 20_000


@pytest.fixture
def host() -> Iterator[Inbox]:
    """What is heard of a host that says nothing."""
    stream = PipeStream(*os.pipe())
    yield Inbox(stream, None)
    stream.close()


def is_alive(pid: int) -> bool:
    try:
        return "(" in Path(f"/proc/{pid}/stat").read_text() and state(pid) != "Z"
    except OSError:
        return False


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_what_the_child_returns_comes_back_whole(host: Inbox) -> None:
    answer = bytes(range(256)) * 4096  # more than a pipe holds
    assert run_forked(lambda: answer, LONG_MS, host) == answer


def test_the_child_is_another_process_in_a_group_of_its_own(host: Inbox) -> None:
    def describe() -> bytes:
        return f"{os.getpid()} {os.getpgid(0)}".encode()

    said = run_forked(describe, LONG_MS, host)
    assert isinstance(said, bytes)
    pid, group = map(int, said.split())
    assert pid == group != os.getpid()


def test_a_crash_is_a_failure_with_its_signal(host: Inbox) -> None:
    def crash() -> bytes:
        faulthandler.disable()  # of pytest, whose report nobody needs here
        os.kill(os.getpid(), signal.SIGSEGV)
        return b""

    failure = run_forked(crash, LONG_MS, host)
    assert failure == Failure("crash", "signal 11 (Segmentation fault)")


def test_an_error_in_the_child_is_a_crash_and_its_traceback_is_printed(
    host: Inbox, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> bytes:
        raise LookupError("no such thing")

    failure = run_forked(fail, LONG_MS, host)
    assert failure == Failure("crash", "exited with status 1 and no answer")
    assert "LookupError: no such thing" in capfd.readouterr().err


def test_a_kill_from_outside_is_taken_for_the_end_of_memory(host: Inbox) -> None:
    def die() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    failure = run_forked(die, LONG_MS, host)
    assert isinstance(failure, Failure)
    assert failure.reason == "out_of_memory"


def test_a_hang_ends_in_time_and_takes_grandchildren_along(host: Inbox, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"

    def hang() -> bytes:
        grandchild = os.fork()
        if grandchild:
            note.write_text(str(grandchild))
        time.sleep(60)
        return b"late"

    started_s = time.monotonic()
    failure = run_forked(hang, 500, host)
    assert failure == Failure("timeout", "killed after 500 ms")
    assert time.monotonic() - started_s < 20
    grandchild = int(note.read_text())
    deadline_s = time.monotonic() + 10
    while is_alive(grandchild) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not is_alive(grandchild)


def test_the_child_ends_when_the_host_is_gone(tmp_path: Path) -> None:
    watched, other = os.pipe()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    note = tmp_path / "child"

    def wait() -> bytes:
        note.write_text(str(os.getpid()))
        time.sleep(60)
        return b""

    os.close(other)
    try:
        with pytest.raises(HostGoneError):
            run_forked(wait, LONG_MS, Inbox(PipeStream(watched, nowhere), None))
    finally:
        os.close(watched)
        os.close(nowhere)
    assert not note.exists() or not is_alive(int(note.read_text()))
