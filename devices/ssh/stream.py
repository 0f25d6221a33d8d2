"""The bytes of a command that runs on a board, over a channel of an SSH connection."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import paramiko

from devices.ssh.transport import BROKEN

#: Reads and writes look at their own deadlines this often: a channel has one time-out for both.
_STEP_S: Final = 0.25
_POLL_S: Final = 0.005
_DRAIN_BYTES: Final = 1 << 16
#: OpenSSH's server copies all that a command has not read yet whenever more comes, up to 2 MiB: the
#: first file over a connection took 30 ms where 10 are enough. So little is sent ahead, unless the
#: server does not say within a moment that it passed on some: it is far away, or busy, or another.
_AHEAD_BYTES: Final = 1 << 18
_PASS_ON_S: Final = 0.02
_LAST_WORDS_BYTES: Final = 4000
#: Written to stderr by the shell that starts a command; see `devices.ssh.shell`.
_PID: Final = re.compile(rb"^latloop (\d+)\n", re.MULTILINE)


class ChannelStream:
    """A `devices.protocol.Stream` to a command; one thread reads, others may write beside it.

    What the command writes to stderr is read on every occasion, so that it never waits for long,
    and its end is kept.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        """Take over a channel on which a command was started."""
        self._channel = channel
        self._stderr = b""
        self._pid: int | None = None
        self._status: int | None = None
        self._window_bytes: int = channel.out_window_size
        self._is_paced = True
        channel.settimeout(_STEP_S)

    @property
    def pid(self) -> int | None:
        """The command's process on the board, once it has told."""
        self._drain()
        return self._pid

    @property
    def status(self) -> int | None:
        """The command's exit status, known after `last_words`; None when a signal ended it."""
        return self._status

    @property
    def is_connected(self) -> bool:
        """Whether the connection to the board is there; the command may have ended."""
        return bool(self._channel.get_transport().is_active())

    def read_some(self, n_bytes: int, timeout_s: float) -> bytes:
        """See `devices.protocol.Stream`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._drain()
            try:
                with _link_errors():
                    data: bytes = self._channel.recv(n_bytes)
            except TimeoutError:
                if time.monotonic() >= deadline_s:
                    raise
                continue
            if not data and not self.is_connected:
                raise ConnectionError("the SSH connection is gone")
            return data

    def write_all(self, data: bytes, timeout_s: float) -> None:
        """See `devices.protocol.Stream`."""
        deadline_s = time.monotonic() + timeout_s
        rest = memoryview(data)
        while rest:
            n_taken = self.write_some(rest)
            rest = rest[n_taken:]
            if not n_taken and time.monotonic() >= deadline_s:
                raise TimeoutError

    def write_some(self, data: bytes | memoryview) -> int:
        """Write as much as is taken at once; how much that is, 0 after a while of nothing.

        Raises:
            ConnectionError: the command has ended, or the link is broken.
        """
        self._pace()
        try:
            with _link_errors():
                n_taken = int(self._channel.send(data))
        except TimeoutError:
            return 0
        if not n_taken:
            raise ConnectionError("the command has ended, or the SSH connection is gone")
        return n_taken

    def read_ready(self) -> bytes:
        """What can be read without waiting, perhaps nothing."""
        self._drain()
        if not self._channel.recv_ready():
            return b""
        return bytes(self._channel.recv(_DRAIN_BYTES))

    def end_input(self) -> None:
        """Tell the command that nothing more comes.

        Raises:
            OSError: the link is broken.
        """
        with _link_errors():
            self._channel.shutdown_write()

    def close(self) -> None:
        """End the command's input; `last_words` closes the channel."""
        with suppress(OSError):
            self.end_input()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the command to end, throwing away what it still prints; whether it has."""
        deadline_s = time.monotonic() + timeout_s
        channel = self._channel
        while not channel.exit_status_ready() and time.monotonic() < deadline_s:
            self._drain()
            if channel.recv_ready():
                channel.recv(_DRAIN_BYTES)  # else the window closes and the command waits
            else:
                channel.status_event.wait(_POLL_S)
        return bool(channel.exit_status_ready())

    def last_words(self, timeout_s: float = 3.0) -> str:
        """Wait for the command to end, close the channel.

        Args:
            timeout_s: How long to wait for it.

        Returns:
            The end of what it wrote to stderr.
        """
        if self.wait(timeout_s) and self._channel.exit_status >= 0:
            self._status = self._channel.exit_status
        self._drain()
        self.abandon()
        return self._stderr.decode(errors="replace").strip()

    def take_words(self, end: bytes, timeout_s: float) -> str:
        """What the command writes to stderr up to an end, and no more is among its last words.

        Raises:
            TimeoutError: the end does not come.
            ConnectionError: the connection or the command ended before.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._stderr.endswith(end):
            try:
                with _link_errors():
                    part = self._channel.recv_stderr(_DRAIN_BYTES)
            except TimeoutError:
                if time.monotonic() >= deadline_s:
                    raise
                continue
            if not part:
                raise ConnectionError("the shell ended")
            self._note(part)
        words, self._stderr = self._stderr.removesuffix(end), b""
        return words.decode(errors="replace").strip()

    def abandon(self) -> None:
        """Close the channel at once; safe to call twice."""
        with suppress(*BROKEN):
            self._channel.close()

    def _pace(self) -> None:
        """Wait a moment if the server has much that the command has not read."""
        channel, least_bytes = self._channel, self._window_bytes - _AHEAD_BYTES
        with channel.out_buffer_cv:
            if self._is_paced and channel.out_window_size < least_bytes:
                self._is_paced = channel.out_buffer_cv.wait_for(
                    lambda: channel.closed or channel.out_window_size >= least_bytes, _PASS_ON_S
                )

    def _drain(self) -> None:
        while self._channel.recv_stderr_ready():
            self._note(self._channel.recv_stderr(_DRAIN_BYTES))

    def _note(self, said: bytes) -> None:
        self._stderr += said
        if self._pid is None and (match := _PID.search(self._stderr)):
            self._pid = int(match[1])
            self._stderr = self._stderr[: match.start()] + self._stderr[match.end() :]
        self._stderr = self._stderr[-_LAST_WORDS_BYTES:]


@contextmanager
def _link_errors() -> Iterator[None]:
    """Turn whatever the library raises when a link breaks into one kind of error."""
    try:
        yield
    except TimeoutError:
        raise
    except BROKEN as error:
        raise ConnectionError(f"the SSH connection broke: {error}") from error
