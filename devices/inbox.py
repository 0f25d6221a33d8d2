"""What the host sends to a runner in Python: requests in a queue, heartbeats answered at once."""

from __future__ import annotations

import math
import os
import select
import time
from collections import deque
from typing import Final

from devices.errors import DeviceError
from devices.protocol import Frame, PipeStream, take_frame
from devices.writer import BEAT

_READ_BYTES: Final = 1 << 20
_MAX_QUEUED: Final = 64
_WRITE_TIMEOUT_S: Final = 60.0
_BYTES_OR_END: Final = select.POLLIN | select.POLLRDHUP


class HostGoneError(DeviceError):
    """Nobody reads answers any more, or is heard: stop."""


class Inbox:
    """The host's requests, as `devices/runner/host.c` takes them."""

    def __init__(self, stream: PipeStream, silence_s: float | None) -> None:
        """Begin to listen.

        Args:
            stream: To the host.
            silence_s: The longest time without a byte; None waits for ever.
        """
        self._stream = stream
        self._silence_s = math.inf if silence_s is None else silence_s
        self._heard_s = time.monotonic()
        self._bytes = bytearray()
        self._requests: deque[Frame] = deque()

    @property
    def fd(self) -> int:
        """What to poll for bytes."""
        return self._stream.read_fd

    @property
    def events(self) -> int:
        """What to poll the descriptor for while something else runs.

        Without heartbeats only the end of the stream matters: nothing else shall wake us.
        """
        return select.POLLRDHUP if math.isinf(self._silence_s) else _BYTES_OR_END

    def next(self) -> Frame | None:
        """Wait for a request; None when the host has closed the stream.

        Raises:
            HostGoneError: it is silent, or has left in the middle of a request.
            ProtocolError: its bytes are no frame.
        """
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        wait_s = self.listen(is_readable=False)
        while not self._requests:
            is_readable = bool(poller.poll(None if math.isinf(wait_s) else wait_s * 1000))
            if is_readable and not self._read():
                if self._bytes:
                    raise HostGoneError("the host has left in the middle of a request")
                return None
            wait_s = self.listen(is_readable=False)
        return self._requests.popleft()

    def listen(self, *, is_readable: bool) -> float:
        """Take what has come, and answer beats.

        Args:
            is_readable: Whether a poll of the descriptor found bytes.

        Returns:
            For how many seconds the host may still be silent.

        Raises:
            HostGoneError: the host is silent, has closed the stream, or sends too much ahead.
            ProtocolError: its bytes are no frame.
        """
        if is_readable and (not self._read() or len(self._requests) > _MAX_QUEUED):
            raise HostGoneError
        left_s = self._heard_s + self._silence_s - time.monotonic()
        if left_s <= 0:
            raise HostGoneError(f"heard nothing from the host for {self._silence_s:g} s")
        return left_s

    def _read(self) -> bool:
        """Whether there was something to read; beats are answered, requests queued."""
        data = os.read(self.fd, _READ_BYTES)
        self._heard_s = time.monotonic()
        self._bytes += data
        while (frame := take_frame(self._bytes)) is not None:
            if frame.message.get("op") == "beat":
                self._stream.write_all(BEAT, _WRITE_TIMEOUT_S)
            else:
                self._requests.append(frame)
        return bool(data)
