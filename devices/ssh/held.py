"""One shell on a board for several scripts, one after the other, and for a command in the end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from devices.shell import Answer
from devices.ssh import scripts
from devices.ssh.connection import SshConnection
from devices.ssh.shell import bounded, read_end, send, send_script, start_script
from devices.ssh.stream import ChannelStream

_READ_BYTES: Final = 1 << 16


class HeldShell:
    """A shell that waits for the next script: to open a channel and start one takes longer.

    It is started when it is first needed, and anew after a script that failed. On the board it ends
    with its channel, whatever closes that. Use it from one thread, and close it.
    """

    def __init__(self, connection: SshConnection) -> None:
        """Note where the board is; nothing is started yet."""
        self.connection = connection
        self._stream: ChannelStream | None = None

    def run(self, script: str, timeout_s: float) -> Answer:
        """Run a script without an input; see `feed`."""
        return self.feed(script, (), timeout_s)

    def feed(self, script: str, chunks: Iterable[bytes], timeout_s: float) -> Answer:
        """Run a script; one that succeeds says `scripts.DONE` and reads the next.

        Args:
            script: Text for the board's /bin/sh. It knows how long its input is, as it sees no end.
            chunks: The input; no more of it is asked for once the script has ended.
            timeout_s: How long the script may read nothing of it, and how long it may go on after
                the last of it.

        Returns:
            What it said, `DONE` aside. Its status is 0 when the shell goes on.

        Raises:
            DeviceUnreachableError: the board does not answer, or not in time.
        """
        stream = self._begin(script)
        with bounded(self.connection, stream, timeout_s):
            printed = bytearray().join(send(stream, chunks, timeout_s))
            deadline_s = time.monotonic() + timeout_s
            while not printed.endswith(scripts.DONE):
                part = stream.read_some(_READ_BYTES, deadline_s - time.monotonic())
                if not part:
                    return read_end(stream, bytes(printed), deadline_s - time.monotonic())
                printed += part
            words = stream.take_words(scripts.DONE, deadline_s - time.monotonic())
        self._stream = stream
        return Answer(0, bytes(printed.removesuffix(scripts.DONE)), words)

    def become(self, script: str) -> ChannelStream:
        """Run a script whose input and output are the caller's from now on, as its end is.

        Raises:
            DeviceUnreachableError: the board does not answer.
        """
        return self._begin(script)

    def close(self) -> None:
        """End the shell, unless it became something else; safe to call twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            # It ends by itself: to close the channel of a shell that lives confuses dropbear, which
            # then ends the next one that is opened (seen with 2022.83).
            stream.close()
            stream.last_words()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, script: str) -> ChannelStream:
        stream, self._stream = self._stream, None
        if stream is None:
            return start_script(self.connection, script)
        send_script(self.connection, stream, script)
        return stream
