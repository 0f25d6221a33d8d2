"""Scripts on a board, one call each: what Latloop asks of a board before a runner lives there."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from devices.errors import DeviceUnreachableError

_SHELL: Final = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script left behind.

    Attributes:
        status: Exit status; 128 and the signal's number where one ended it.
        stdout: As it came.
        stderr: Decoded, for people.
    """

    status: int
    stdout: bytes
    stderr: str


class Shell(Protocol):
    """A way to run scripts of POSIX sh on a board."""

    def run(self, script: str, stdin: bytes = b"", timeout_s: float = 30.0) -> Answer:
        """Run a script to its end.

        Args:
            script: Text for the board's /bin/sh; values in it are quoted by `shlex.quote`.
            stdin: What the script can read.
            timeout_s: The script and what it started are ended after this long.

        Raises:
            DeviceUnreachableError: the board does not answer, or not in time.
        """


@dataclass(frozen=True, slots=True)
class LocalShell:
    """The shell of this machine.

    Attributes:
        name: What messages call the machine.
    """

    name: str = "local"

    def run(self, script: str, stdin: bytes = b"", timeout_s: float = 30.0) -> Answer:
        """See `Shell`."""
        # A session of its own, so that the time-out reaches whatever the script has started.
        process = subprocess.Popen(
            [_SHELL, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise DeviceUnreachableError(
                f"{self.name} did not finish a script within {timeout_s:g} s; try again when it "
                "has less to do"
            ) from error
        finally:
            if process.poll() is None:
                _kill_group(process)
        status = process.returncode
        return Answer(
            status if status >= 0 else 128 - status, stdout, stderr.decode(errors="replace")
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
