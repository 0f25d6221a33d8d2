"""Frames between host and runner, over any pair of byte streams.

A frame is two little-endian u32 (bytes of JSON, bytes of blob), the JSON text, the blob.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from devices.errors import ProtocolError, RunnerLostError

PROTOCOL_VERSION: Final = 2
MAX_JSON_BYTES: Final = 16 << 20
MAX_BLOB_BYTES: Final = 1 << 30

_HEADER: Final = struct.Struct("<II")
_READ_BYTES: Final = 1 << 20

Clock = Callable[[], float]


class Stream(Protocol):
    """A pair of byte streams to a runner and back."""

    def read_some(self, n_bytes: int, timeout_s: float) -> bytes:
        """Return 1 to n_bytes bytes as soon as there are any; b"" at the end of the stream.

        Raises:
            TimeoutError: nothing came in time.
            OSError: the link is broken.
        """

    def write_all(self, data: bytes, timeout_s: float) -> None:
        """Write everything.

        Raises:
            TimeoutError: the other side did not take it in time.
            OSError: the link is broken.
        """

    def close(self) -> None:
        """Close both directions; the runner then ends by itself."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: a JSON object and bytes that belong to it."""

    message: Mapping[str, object]
    blob: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame.

    Raises:
        ValueError: the JSON or the blob is over its bound.
    """
    text = json.dumps(frame.message, separators=(",", ":"), allow_nan=False).encode()
    for name, n_bytes, bound in (
        ("JSON", len(text), MAX_JSON_BYTES),
        ("blob", len(frame.blob), MAX_BLOB_BYTES),
    ):
        if n_bytes > bound:
            raise ValueError(f"a frame's {name} must have at most {bound} bytes, got {n_bytes}")
    return b"".join((_HEADER.pack(len(text), len(frame.blob)), text, frame.blob))


def read_frame(
    stream: Stream,
    timeout_s: float,
    clock: Clock = time.monotonic,
    silence_s: float | None = None,
) -> Frame:
    """Read the next frame, whole within timeout_s seconds.

    Args:
        stream: To the runner.
        timeout_s: For all of the frame.
        clock: Tells the time in seconds.
        silence_s: The longest wait for any byte; None where the runner sends no heartbeats.

    Raises:
        RunnerLostError: the stream ended or broke, was silent, or the time is over.
        ProtocolError: the bytes are no frame.
    """
    read = _Reader(stream, clock, clock() + timeout_s, silence_s).read_exactly
    json_bytes, blob_bytes = _read_header(read(_HEADER.size))
    text = read(json_bytes)
    return _decode(text, read(blob_bytes))


def take_frame(data: bytearray) -> Frame | None:
    """Take the first frame from what has come so far; None when it is not whole yet.

    Raises:
        ProtocolError: the bytes are no frame.
    """
    if len(data) < _HEADER.size:
        return None
    json_bytes, blob_bytes = _read_header(data[: _HEADER.size])
    blob_start = _HEADER.size + json_bytes
    end = blob_start + blob_bytes
    if len(data) < end:
        return None
    frame = _decode(bytes(data[_HEADER.size : blob_start]), bytes(data[blob_start:end]))
    del data[:end]
    return frame


def _read_header(header: bytes | bytearray) -> tuple[int, int]:
    json_bytes, blob_bytes = _HEADER.unpack(header)
    if not 0 < json_bytes <= MAX_JSON_BYTES or blob_bytes > MAX_BLOB_BYTES:
        raise ProtocolError(f"not a frame: {json_bytes} bytes of JSON, {blob_bytes} of blob")
    return json_bytes, blob_bytes


def _decode(text: bytes, blob: bytes) -> Frame:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"not a frame: its JSON is malformed: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError(f"not a frame: its JSON is no object but {type(message).__name__}")
    return Frame(message, blob)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads until a deadline, and no longer than silence_s without a byte."""

    stream: Stream
    clock: Clock
    deadline_s: float
    silence_s: float | None

    def read_exactly(self, n_bytes: int) -> bytes:
        parts: list[bytes] = []
        n_missing = n_bytes
        while n_missing:
            part = self._read_some(min(n_missing, _READ_BYTES))
            if not part:
                raise RunnerLostError("the runner closed the stream")
            parts.append(part)
            n_missing -= len(part)
        return b"".join(parts)

    def _read_some(self, n_bytes: int) -> bytes:
        left_s = max(self.deadline_s - self.clock(), 0.0)
        is_bounded = self.silence_s is not None and self.silence_s < left_s
        wait_s = self.silence_s if self.silence_s is not None and is_bounded else left_s
        try:
            return self.stream.read_some(n_bytes, wait_s)
        except TimeoutError as error:
            silent = f"heard nothing of the runner for {wait_s:g} s"
            raise RunnerLostError(
                silent if is_bounded else "the runner did not answer in time"
            ) from error
        except OSError as error:
            raise RunnerLostError(f"the link to the runner broke: {error}") from error


@dataclass(slots=True)
class PipeStream:
    """A stream over two file descriptors, which it owns.

    Attributes:
        read_fd, write_fd: The host's ends of the runner's stdout and stdin.
    """

    read_fd: int
    write_fd: int
    _is_open: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        os.set_blocking(self.write_fd, False)

    def read_some(self, n_bytes: int, timeout_s: float) -> bytes:
        """See `Stream`."""
        _wait(self.read_fd, select.POLLIN, timeout_s)
        return os.read(self.read_fd, n_bytes)

    def write_all(self, data: bytes, timeout_s: float) -> None:
        """See `Stream`."""
        deadline_s = time.monotonic() + timeout_s
        rest = memoryview(data)
        while rest:
            _wait(self.write_fd, select.POLLOUT, deadline_s - time.monotonic())
            rest = rest[os.write(self.write_fd, rest) :]

    def close(self) -> None:
        """See `Stream`."""
        if self._is_open:
            self._is_open = False
            os.close(self.write_fd)
            os.close(self.read_fd)


def _wait(fd: int, event: int, timeout_s: float) -> None:
    poller = select.poll()
    poller.register(fd, event)
    if not poller.poll(max(timeout_s, 0.0) * 1000):
        raise TimeoutError
