from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import ProtocolError, RunnerLostError
from devices.protocol import (
    MAX_BLOB_BYTES,
    MAX_JSON_BYTES,
    Frame,
    PipeStream,
    encode_frame,
    read_frame,
    take_frame,
)


@pytest.fixture
def loop() -> Iterator[PipeStream]:
    stream = PipeStream(*os.pipe())
    yield stream
    stream.close()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.binary())
def test_a_frame_is_read_back_as_it_was(message: dict[str, object], blob: bytes) -> None:
    stream = PipeStream(*os.pipe())
    stream.write_all(encode_frame(Frame(message, blob)), 1.0)
    assert read_frame(stream, 1.0) == Frame(message, blob)
    stream.close()


def test_a_frame_has_little_endian_lengths_then_json_then_blob() -> None:
    assert encode_frame(Frame({"a": 1}, b"xyz")) == b'\x07\0\0\0\x03\0\0\0{"a":1}xyz'


def test_a_frame_over_its_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON must have at most"):
        encode_frame(Frame({"a": "x" * MAX_JSON_BYTES}))


@given(st.lists(st.binary(max_size=20), max_size=4), st.integers(1, 30))
def test_frames_are_taken_whole_however_they_come(blobs: list[bytes], n_bytes: int) -> None:
    frames = [Frame({"n": n}, blob) for n, blob in enumerate(blobs)]
    sent, come, taken = b"".join(map(encode_frame, frames)), bytearray(), []
    for start in range(0, len(sent), n_bytes):
        come += sent[start : start + n_bytes]
        while (frame := take_frame(come)) is not None:
            taken.append(frame)
    assert (taken, come) == (frames, b"")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<II", 0, 0),
        struct.pack("<II", MAX_JSON_BYTES + 1, 0),
        struct.pack("<II", 2, MAX_BLOB_BYTES + 1),
        struct.pack("<II", 2, 0) + b"{]",
        struct.pack("<II", 2, 0) + b"[]",
        struct.pack("<II", 2, 0) + b"\xff\xff",
    ],
)
def test_bytes_that_are_no_frame_are_a_protocol_error(loop: PipeStream, data: bytes) -> None:
    loop.write_all(data, 1.0)
    with pytest.raises(ProtocolError):
        read_frame(loop, 1.0)
    with pytest.raises(ProtocolError):
        take_frame(bytearray(data))


def test_a_stream_that_ends_within_a_frame_is_a_lost_runner() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, encode_frame(Frame({"a": 1}))[:-1])
    os.close(write_fd)
    stream = PipeStream(read_fd, os.open(os.devnull, os.O_WRONLY))
    with pytest.raises(RunnerLostError, match="closed"):
        read_frame(stream, 1.0)
    stream.close()


def test_silence_ends_with_the_deadline(loop: PipeStream) -> None:
    loop.write_all(b"\x07", 1.0)
    with pytest.raises(RunnerLostError, match="in time"):
        read_frame(loop, 0.05)


class Trickle:
    """A stream that hands out one byte every three seconds of its own time."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.now_s = 0.0

    def read_some(self, n_bytes: int, timeout_s: float) -> bytes:
        del n_bytes
        if timeout_s < 3 or not self.data:
            raise TimeoutError
        self.now_s += 3
        part, self.data = self.data[:1], self.data[1:]
        return part

    def write_all(self, data: bytes, timeout_s: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def test_a_runner_is_lost_when_it_is_silent_not_when_it_is_slow() -> None:
    frame = Frame({"a": 1}, bytes(20))
    slow = Trickle(encode_frame(frame))
    assert read_frame(slow, 600, clock=lambda: slow.now_s, silence_s=4) == frame
    assert slow.now_s > 50
    with pytest.raises(RunnerLostError, match=r"heard nothing of the runner for 2 s"):
        read_frame(Trickle(encode_frame(frame)), 600, silence_s=2)
    with pytest.raises(RunnerLostError, match="did not answer in time"):
        read_frame(Trickle(encode_frame(frame)), 1, silence_s=2)


def test_writing_to_one_who_does_not_read_ends_with_the_deadline(loop: PipeStream) -> None:
    with pytest.raises(TimeoutError):
        loop.write_all(bytes(1 << 20), 0.05)


JSON_FRAME = struct.pack("<II", 15, 0) + b'{"id":1,"op":1}'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x05\0\0", b"header ends after 3 of 8"),
        (struct.pack("<II", 0, 0), b"JSON of 0 bytes"),
        (struct.pack("<II", MAX_JSON_BYTES + 1, 0), b"malformed frame: JSON of 16777217"),
        (struct.pack("<II", 2, MAX_BLOB_BYTES + 1), b"blob of 1073741825"),
        (struct.pack("<II", 5, 0) + b"{}", b"the JSON ends after 2 of 5"),
        (struct.pack("<II", 2, 9) + b"{}abc", b"the blob ends after 3 of 9"),
        (struct.pack("<II", 3, 0) + b"{]}", b"3 bytes that are not JSON"),
        (struct.pack("<II", 6, 0) + b'{"a":"', b"6 bytes that are not JSON"),
        (struct.pack("<II", 200, 0) + b"[" * 200, b"200 bytes that are not JSON"),
        (struct.pack("<II", 2, 0) + b"{}", b"malformed request"),
        (struct.pack("<II", 2, 0) + b"[]", b"malformed request"),
        (JSON_FRAME, b"malformed request"),
    ],
)
def test_a_malformed_frame_ends_the_runner_with_a_clear_error(
    executable: Path, data: bytes, said: bytes
) -> None:
    done = subprocess.run([executable], input=data, capture_output=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"latloop runner: malformed")
    assert said in done.stderr


def test_the_runner_refuses_an_unknown_operation_and_goes_on(executable: Path) -> None:
    op = 'dance \u00e9 \u20ac \U0001f600 "\n\x7f'
    unknown = encode_frame(Frame({"id": 7, "op": op}))
    stop = encode_frame(Frame({"id": 8, "op": "stop"}))
    done = subprocess.run(
        [executable], input=unknown + stop, capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 0
    answer = take_frame(bytearray(done.stdout))
    assert answer is not None
    assert answer.message["id"] == 7
    detail = f"op must be describe, time, run or stop, got {op}"
    assert answer.message["failure"] == {"reason": "bad_request", "detail": detail}
    assert done.stdout.endswith(b'{"id":8,"generation":null}')


def test_the_runner_ends_when_its_input_does(executable: Path) -> None:
    done = subprocess.run([executable], input=b"", capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
