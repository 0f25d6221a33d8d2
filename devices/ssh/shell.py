"""Scripts on a board over SSH, whatever shell the account has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from devices.errors import DeviceUnreachableError
from devices.shell import Answer
from devices.ssh import scripts
from devices.ssh.connection import START_TIMEOUT_S, SshConnection
from devices.ssh.stream import ChannelStream

_READ_BYTES: Final = 1 << 20
_STATUS_UNKNOWN: Final = 255


@dataclass(frozen=True, slots=True)
class SshShell:
    """The shell of a board; see `devices.shell.Shell`.

    Attributes:
        connection: Shared with whatever else talks to the board.
    """

    connection: SshConnection

    def run(self, script: str, stdin: bytes = b"", timeout_s: float = 30.0) -> Answer:
        """See `devices.shell.Shell`."""
        stream = start_script(self.connection, script)
        with bounded(self.connection, stream, timeout_s):
            printed = send(stream, (stdin,), timeout_s)
            stream.end_input()
            deadline_s = time.monotonic() + timeout_s
            while part := stream.read_some(_READ_BYTES, deadline_s - time.monotonic()):
                printed.append(part)
            return read_end(stream, b"".join(printed), deadline_s - time.monotonic())


def start_script(connection: SshConnection, script: str) -> ChannelStream:
    """Start a script of POSIX sh, whose input is what is written to the stream.

    Args:
        connection: To the board.
        script: Its text; values in it are quoted by `shlex.quote`.

    Raises:
        DeviceUnreachableError: the board does not answer.
    """
    stream = ChannelStream(connection.execute(scripts.COMMAND))
    send_script(connection, stream, script)
    return stream


def send_script(connection: SshConnection, stream: ChannelStream, script: str) -> None:
    """Send a script to a shell that waits for one; the stream is closed when that fails.

    Raises:
        DeviceUnreachableError: the board does not answer.
    """
    try:
        stream.write_all(scripts.encode(script), START_TIMEOUT_S)
    except OSError as error:  # TimeoutError is one, and says nothing
        stream.abandon()
        raise DeviceUnreachableError(
            f"{connection.name}: {str(error) or 'no answer'}; check power and network"
        ) from error


def send(stream: ChannelStream, chunks: Iterable[bytes], timeout_s: float) -> list[bytes]:
    """Write a script's input; what it printed meanwhile, which must not hold it up.

    A script may end before it has read everything.

    Raises:
        TimeoutError: it took nothing for so long.
        ConnectionError: the link is broken.
    """
    printed: list[bytes] = []
    for chunk in chunks:
        rest = memoryview(chunk)
        deadline_s = time.monotonic() + timeout_s
        while rest:
            printed.append(stream.read_ready())
            try:
                n_taken = stream.write_some(rest)
            except ConnectionError:
                if not stream.is_connected:
                    raise
                return printed
            rest = rest[n_taken:]
            if n_taken or printed[-1]:
                deadline_s = time.monotonic() + timeout_s
            elif time.monotonic() >= deadline_s:
                raise TimeoutError
    return printed


def read_end(stream: ChannelStream, printed: bytes, timeout_s: float) -> Answer:
    """The answer of a script that prints no more.

    Raises:
        TimeoutError: it did not end.
    """
    if not stream.wait(timeout_s):
        raise TimeoutError
    words = stream.last_words()
    return Answer(_STATUS_UNKNOWN if stream.status is None else stream.status, printed, words)


@contextmanager
def bounded(connection: SshConnection, stream: ChannelStream, timeout_s: float) -> Iterator[None]:
    """End a script that takes too long, and close its stream after whatever goes wrong."""
    try:
        yield
    except BaseException as error:
        try:
            if isinstance(error, TimeoutError):
                _kill(connection, stream)
        finally:
            stream.abandon()
        if isinstance(error, TimeoutError):
            raise DeviceUnreachableError(
                f"{connection.name} did not finish a script within {timeout_s:g} s; try again "
                "when it has less to do"
            ) from error
        if isinstance(error, ConnectionError):
            raise DeviceUnreachableError(
                f"{connection.name}: {error}; check power and network"
            ) from error
        raise


def _kill(connection: SshConnection, stream: ChannelStream) -> None:
    """End a script that takes too long; a board out of reach ends it when the link breaks."""
    if stream.pid is not None:
        killer = start_script(connection, scripts.kill_tree(stream.pid))
        killer.last_words()
