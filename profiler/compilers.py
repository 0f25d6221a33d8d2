"""Compiler processes that stay warm from one build to the next."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

_CRASHES: Final = frozenset({-signal.SIGSEGV, -signal.SIGABRT})  # how LLVM dies of a kernel


class CompilerLostError(RuntimeError):
    """The compiler process cannot be started or died again and again: stop and repair it."""


class Compilers:
    """Compiler processes, forked when all that there are have something to do.

    The first use imports the compiler, which takes seconds. A context manager that ends all
    processes; may be used by several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._origin: _Origin | None = None
        self._idle: list[_Compiler] = []
        self._pids: set[int] = set()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, also those that are compiling; whoever waits for one gets an error."""
        with self._lock:
            self._is_closed = True
            origin, self._origin = self._origin, None
            idle, self._idle = self._idle, []
        if origin is not None:
            origin.end()
        for compiler in idle:
            compiler.close()

    @property
    def pids(self) -> list[int]:
        """Processes that compile or wait."""
        with self._lock:
            return sorted(self._pids)

    def start(self) -> None:
        """Import the compiler now rather than when it is first needed.

        Raises:
            CompilerLostError: it cannot be imported, or this was closed.
        """
        with self._lock:
            self._find_origin()

    def compile(self, request: bytes) -> bytes | str:
        """Let a process compile; forks one where none is idle.

        Args:
            request: One line of JSON; see `profiler.compile_worker`.

        Returns:
            The object file's bytes, or why there are none.

        Raises:
            CompilerLostError: processes die before they answer for another reason than the
                kernel, or this was closed.
        """
        compiler = self._take()
        answer = compiler.ask(request)
        if answer is None:
            return self._bury(compiler)
        with self._lock:
            self._idle.append(compiler)
        return answer

    @contextmanager
    def keep_off(self, cores: Collection[int]) -> Iterator[None]:
        """Let all processes run on other cores of this machine alone, where there are any."""
        allowed = os.sched_getaffinity(0)
        rest = allowed - set(cores)
        self._run_on(rest or allowed)
        try:
            yield
        finally:
            self._run_on(allowed)

    def _run_on(self, cores: set[int]) -> None:
        with self._lock:
            if self._origin is None:
                return
            for pid in (self._origin.pid, *self._pids):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(pid, cores)

    def _take(self) -> _Compiler:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            compiler = self._find_origin().fork()
            self._pids.add(compiler.pid)
            return compiler

    def _find_origin(self) -> _Origin:
        if self._is_closed:
            raise CompilerLostError("the compiler processes were ended")
        self._origin = self._origin or _Origin()
        return self._origin

    def _bury(self, compiler: _Compiler) -> str:
        compiler.close()
        with self._lock:
            self._pids.discard(compiler.pid)
            status = self._find_origin().status(compiler.pid)
        if compiler.is_fresh and not compiler.has_begun and status not in _CRASHES:
            raise CompilerLostError(f"the compiler process {_how_to_see(status)}")
        return f"the compiler process crashed (exit code {status})"


class _Origin:
    """The process that has imported the compiler, of which all others are forks."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "profiler.compile_worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # one group, so that all end together
            )
        self._control = ours
        self._answers = ours.makefile("rb")
        self.pid = self._process.pid
        self._answer()

    def fork(self) -> _Compiler:
        """A new compiler process."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            return _Compiler(self._answer()["pid"], ours)
        except OSError as error:
            ours.close()
            raise self._lost() from error
        except CompilerLostError:
            ours.close()
            raise

    def status(self, pid: int) -> int:
        """How a fork ended that did: as `subprocess.Popen.returncode`."""
        try:
            self._control.sendall(json.dumps({"pid": pid}).encode())
        except OSError as error:
            raise self._lost() from error
        return self._answer()["status"]

    def end(self) -> None:
        """Kill this process and its forks."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._answers.close()
        self._control.close()

    def _answer(self) -> dict[str, int]:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise self._lost()
        answer: dict[str, int] = json.loads(line)
        return answer

    def _lost(self) -> CompilerLostError:
        self._answers.close()
        self._control.close()
        return CompilerLostError(f"the compiler process {_how_to_see(self._process.wait())}")


class _Compiler:
    """The host's end of one fork.

    Attributes:
        pid: Of its process.
        is_fresh: Whether it has answered nothing yet.
        has_begun: Whether it died in the middle of an answer.
    """

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.is_fresh = True
        self.has_begun = False
        self._connection = connection
        self._answers = connection.makefile("rb")

    def ask(self, request: bytes) -> bytes | str | None:
        """An object file, the compiler's refusal, or None when the process died."""
        try:
            self._connection.sendall(request)
            line = self._answers.readline()
        except OSError:
            line = b""
        self.has_begun = bool(line)
        if not line.endswith(b"\n"):
            return None
        header = json.loads(line)
        if "error" in header:
            self.is_fresh = False
            return str(header["error"])
        data = self._answers.read(header["n_bytes"])
        if len(data) < header["n_bytes"]:
            return None
        self.is_fresh = False
        return data

    def close(self) -> None:
        """Let the process end."""
        self._answers.close()
        self._connection.close()


def _how_to_see(status: int) -> str:
    python = Path(sys.executable).name
    return (
        f"ended with exit code {status} before it answered; "
        f"run `{python} -m profiler.compile_worker` to see why"
    )
