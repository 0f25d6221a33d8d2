"""The machine that Latloop runs on, as a device: its runner is a child process on two pipes."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from devices.board import Fingerprint
from devices.cores import choose_cores, occupied
from devices.errors import ExecutableRefusedError
from devices.executable import check_executable
from devices.fingerprint import read_fingerprint
from devices.protocol import PipeStream
from devices.session import RunnerSession

_END_TIMEOUT_S: Final = 5.0
_LAST_WORDS_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """The machine that this program runs on.

    Attributes:
        name: The name in the inventory.
        threads: Threads that a kernel may use, each on a core of its own.
        core: The core that measures; None takes the last one that this process may use.
        versions: (component, version) pairs for the runtime's fingerprint.
        root: Where `proc` and `sys` are found.
    """

    name: str = "local"
    threads: int = 1
    core: int | None = None
    versions: tuple[tuple[str, str], ...] = ()
    root: Path = Path("/")

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be >= 1, got {self.threads}")

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores that threads are pinned to, the measuring one first.

        Raises:
            TooFewCoresError: there are fewer than threads.
        """
        return choose_cores(self.threads, self.core, self.root)

    @property
    def host_cores(self) -> tuple[int, ...]:
        """See `devices.device.Device`."""
        return occupied(self.cores, self.root)

    def fingerprint(self) -> Fingerprint:
        """See `devices.device.Device`."""
        return read_fingerprint(self.root, platform.machine(), self.threads, self.versions)

    def start(self, executable: Path) -> RunnerSession:
        """Start an executable of this machine's architecture as a child process.

        The runner ends when this process does, however that comes about.

        Raises:
            ExecutableRefusedError: no such file, or not for this machine.
            TooFewCoresError: there are fewer cores than threads.
            RunnerLostError: it started and did not answer.
        """
        check_executable(executable, platform.machine())
        command = [str(executable), *self._arguments()]
        return start_runner(command, self.cores, name=self.name)

    def _arguments(self) -> list[str]:
        return [] if self.root == Path("/") else ["--root", str(self.root)]


def start_runner(
    command: list[str],
    cores: tuple[int, ...],
    environment: Mapping[str, str] | None = None,
    *,
    silence_s: float | None = None,
    name: str = "",
) -> RunnerSession:
    """Start a runner as a child process; it ends when this process does.

    Args:
        command: Program and arguments.
        cores: A core for each thread, the measuring one first.
        environment: Of the runner; None takes that of this process.
        silence_s: See `RunnerSession`; the command has to say the same.
        name: The device's, for messages.

    Raises:
        ExecutableRefusedError: it cannot be started.
        RunnerLostError: it started and did not answer.
    """
    stream, end = start_process(command, environment)
    return RunnerSession(stream, cores, end, silence_s=silence_s, name=name)


def start_process(
    command: list[str], environment: Mapping[str, str] | None = None
) -> tuple[PipeStream, Callable[[], str]]:
    """Start a program that ends when its input does.

    Returns:
        A stream to it; and what waits for its end once the stream is closed, kills it if need be,
        and returns what it said last.

    Raises:
        ExecutableRefusedError: it cannot be started.
    """
    words = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the program
    try:
        process = _start_process(command, words, environment)
    except OSError as error:
        words.close()
        raise ExecutableRefusedError(f"cannot start {command[0]}: {error}") from error
    assert process.stdin is not None
    assert process.stdout is not None
    stream = PipeStream(os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno()))
    process.stdin.close()
    process.stdout.close()
    return stream, lambda: _end_process(process, words)


def _start_process(
    command: list[str], words: IO[bytes], environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    for attempt in range(5):
        try:
            # A session of its own: Ctrl-C reaches the host alone, which then ends the runner.
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            # Another thread that forks while the file was written holds it open for a moment.
            if error.errno != errno.ETXTBSY or attempt == 4:
                raise
            time.sleep(0.05)
    raise AssertionError("unreachable")


def _end_process(process: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    """Wait for a runner whose stdin is closed, kill it if need be, return what it said last."""
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with words:
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    if process.returncode and not said:
        return f"it ended with status {process.returncode}"
    return said[-_LAST_WORDS_CHARS:]
