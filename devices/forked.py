"""Work in a forked child with a time limit: a crash or a hang costs the child alone."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from devices.device import Failure
from devices.inbox import HostGoneError, Inbox

_READ_BYTES: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1
#: Loaded before the fork: a child should do as little as it can before its work.
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def run_forked(work: Callable[[], bytes], timeout_ms: int, host: Inbox) -> bytes | Failure:
    """Run work in a child of its own process group and return what it returned.

    Args:
        work: Runs in the child.
        timeout_ms: The child's group is killed after this long.
        host: Listened to meanwhile; the child is killed when it is gone.

    Returns:
        The bytes, or how the child ended without any.

    Raises:
        HostGoneError: the host is gone, and so is the child.
    """
    read_fd, write_fd = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        os.close(read_fd)
        os.close(write_fd)
        return Failure("out_of_memory", f"cannot start a child: {error.strerror}")
    if child == 0:
        os.close(read_fd)
        _be_child(work, write_fd, parent)
    with suppress(OSError):  # both sides do it, so that neither has to wait
        os.setpgid(child, child)
    os.close(write_fd)
    try:
        return _watch(child, read_fd, time.monotonic() + timeout_ms / 1000, host, timeout_ms)
    finally:
        os.close(read_fd)


def _be_child(work: Callable[[], bytes], write_fd: int, parent: int) -> NoReturn:
    """The child's life; it must not run the parent's handlers, so it ends by `_exit`."""
    status = 1
    try:
        os.setpgid(0, 0)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
        with suppress(OSError):  # when memory runs out, the system shall end the child
            Path("/proc/self/oom_score_adj").write_text("1000")
        answer = memoryview(work())
        while answer:
            answer = answer[os.write(write_fd, answer) :]
        status = 0
    except BaseException as error:  # nothing may return to the parent's code
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        os._exit(status)


def _watch(
    child: int, read_fd: int, deadline_s: float, host: Inbox, timeout_ms: int
) -> bytes | Failure:
    parts: list[bytes] = []
    is_late = False
    poller = select.poll()
    poller.register(read_fd, select.POLLIN)
    poller.register(host.fd, host.events)
    try:
        while not is_late:
            left_s = deadline_s - time.monotonic()
            wait_s = min(left_s, host.listen(is_readable=False))
            ready = dict(poller.poll(max(wait_s, 0) * 1000))
            events = ready.get(host.fd, 0)
            if events & ~select.POLLIN:
                raise HostGoneError
            host.listen(is_readable=bool(events))
            is_late = time.monotonic() >= deadline_s and not ready
            if read_fd in ready:
                part = os.read(read_fd, _READ_BYTES)
                if not part:
                    break
                parts.append(part)
    finally:
        status = _reap(child, kill_now=is_late or sys.exc_info()[0] is not None)
    if is_late:
        return Failure("timeout", f"killed after {timeout_ms} ms")
    return _describe_end(status) or b"".join(parts)


def _reap(child: int, *, kill_now: bool) -> int:
    """End what the child has started, too, and return its status."""
    if not kill_now:  # its pipe is closed, so it is about to end by itself
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _describe_end(status: int) -> Failure | None:
    """How a child ended that gave no whole answer; SIGKILL that we did not send is the system's."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    if code == -signal.SIGKILL:
        text = "killed from outside, most likely because the board's memory ran out"
        return Failure("out_of_memory", text)
    if code < 0:
        return Failure("crash", f"signal {-code} ({signal.strsignal(-code)})")
    return Failure("crash", f"exited with status {code} and no answer")
