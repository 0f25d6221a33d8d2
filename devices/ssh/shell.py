"""Scripts on a board over SSH, whatever shell the account has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
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
        return self.feed(script, (stdin,), timeout_s)

    def feed(self, script: str, chunks: Iterable[bytes], timeout_s: float = 30.0) -> Answer:
        """Run a script that reads a long input.

        Args:
            script: As for `run`.
            chunks: The input; no more of it is asked for once the script has ended.
            timeout_s: How long the script may read nothing of it, and how long it may go on after
                the last of it.

        Raises:
            DeviceUnreachableError: see `run`.
        """
        stream = start_script(self.connection, script)
        try:
            printed = _send(stream, chunks, timeout_s)
            printed.extend(_read_all(stream, timeout_s))
            words = stream.last_words()
        except TimeoutError as error:
            self._kill(stream)
            raise DeviceUnreachableError(
                f"{self.connection.name} did not finish a script within {timeout_s:g} s; try again "
                "when it has less to do"
            ) from error
        except ConnectionError as error:
            raise DeviceUnreachableError(
                f"{self.connection.name}: {error}; check power and network"
            ) from error
        finally:
            stream.abandon()
        return Answer(
            _STATUS_UNKNOWN if stream.status is None else stream.status, b"".join(printed), words
        )

    def _kill(self, stream: ChannelStream) -> None:
        """End a script that takes too long; a board out of reach ends it when the link breaks."""
        if stream.pid is not None:
            killer = start_script(self.connection, scripts.kill_tree(stream.pid))
            killer.last_words()


def start_script(connection: SshConnection, script: str) -> ChannelStream:
    """Start a script of POSIX sh, whose input is what is written to the stream.

    Args:
        connection: To the board.
        script: Its text; values in it are quoted by `shlex.quote`.

    Raises:
        DeviceUnreachableError: the board does not answer.
    """
    stream = ChannelStream(connection.execute(scripts.COMMAND))
    text = script.encode()
    try:
        stream.write_all(b"%d\n%b" % (len(text), text), START_TIMEOUT_S)
    except OSError as error:  # TimeoutError is one, and says nothing
        stream.abandon()
        raise DeviceUnreachableError(
            f"{connection.name}: {str(error) or 'no answer'}; check power and network"
        ) from error
    return stream


def _send(stream: ChannelStream, chunks: Iterable[bytes], timeout_s: float) -> list[bytes]:
    """Write the input; what the script printed meanwhile, which must not hold it up.

    A script may end before it has read everything.
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
    stream.end_input()
    return printed


def _read_all(stream: ChannelStream, timeout_s: float) -> Iterator[bytes]:
    """What a script prints until it ends."""
    deadline_s = time.monotonic() + timeout_s
    while part := stream.read_some(_READ_BYTES, deadline_s - time.monotonic()):
        yield part
    if not stream.wait(deadline_s - time.monotonic()):
        raise TimeoutError
