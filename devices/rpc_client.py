"""Passes a runner's frames through TVM's RPC, between stdin and stdout.

A program of its own, which imports TVM: `python -m devices.rpc_client --port N --server-port N
--library FILE --connect-s N -- ARGUMENTS`. It connects to the server at that port of this machine,
which the server itself knows by the other one, loads the library there, and starts the runner in it
with the arguments. The first frame that it writes says
`{"ready": true}`, or `{"failure": {"reason": ..., "detail": ...}}` with a reason of
`devices.rpc`; all others are the runner's. It ends with its input.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from devices.protocol import Frame, encode_frame

#: How long the board may wait in a call for the runner's next bytes; what the host sends
#: meanwhile, which is no more than a beat, waits as long.
WAIT_MS: Final = 250
READ_BYTES: Final = 1 << 20
_RETRY_S: Final = 1.0
_HEADER: Final = struct.Struct("<II")
_CHECK: Final = re.compile(r"^Check failed: .*? is false: ")
_STDIN, _STDOUT, _STDERR = 0, 1, 2

#: Gives bytes to the runner and returns what it sent, waiting up to so many milliseconds for the
#: first byte; None when the runner has ended.
Exchange = Callable[[bytes, int], bytes | None]


@dataclass(slots=True)
class FrameCounter:
    """Counts whole frames in a stream of bytes that comes in pieces."""

    n_frames: int = 0
    _header: bytes = field(default=b"", init=False)
    _n_missing: int = field(default=0, init=False)

    def feed(self, data: bytes) -> None:
        """Go on with the next piece."""
        at = 0
        while at < len(data):
            if not self._n_missing:
                taken = data[at : at + _HEADER.size - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) == _HEADER.size:
                    self._n_missing = sum(_HEADER.unpack(self._header))
                continue
            n_taken = min(self._n_missing, len(data) - at)
            at += n_taken
            self._n_missing -= n_taken
            if not self._n_missing:
                self.n_frames += 1
                self._header = b""


def relay(exchange: Exchange, read_fd: int, write_fd: int) -> None:
    """Pass bytes both ways until the host closes its side or the runner ends.

    The runner answers every frame with one frame, so it is asked for bytes only as long as it owes
    some: a board that measures is not disturbed by idle calls, and no call waits while the host
    has something to say and the runner has not.
    """
    sent, answered = FrameCounter(), FrameCounter()
    while True:
        is_owed = sent.n_frames > answered.n_frames
        readable, _, _ = select.select([read_fd], [], [], 0.0 if is_owed else None)
        data = os.read(read_fd, READ_BYTES) if readable else b""
        if readable and not data:
            return
        sent.feed(data)
        answer = exchange(data, WAIT_MS if sent.n_frames > answered.n_frames else 0)
        if answer is None:
            return
        answered.feed(answer)
        _write_all(write_fd, answer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until stdin ends."""
    given = _parser().parse_args(arguments)
    # TVM prints here and there; between frames there must be nothing else.
    frames_fd = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    try:
        from tvm import rpc  # noqa: PLC0415  # nobody else in this package imports it
    except ImportError as error:
        _give_up(frames_fd, "missing", f"cannot import TVM's RPC: {error}")
    session = _connect(rpc, given.port, given.connect_s, frames_fd)
    words = b"".join(f"{text}\0".encode() for text in given.runner)
    try:
        module = _load(session, given.library)
        module["latloop_start"](words, given.server_port)
        exchange = module["latloop_exchange"]
    except RuntimeError as error:
        _give_up(frames_fd, "refused", _reason(error))
    _write_all(frames_fd, encode_frame(Frame({"ready": True})))
    try:
        relay(exchange, _STDIN, frames_fd)
        words = bytes(module["latloop_end"]())
    except RuntimeError as error:
        words = f"TVM's RPC server is gone: {_reason(error)}".encode()
    _write_all(_STDERR, words)
    # Handles of a server that is gone would be given back to it, in an error message each.
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devices.rpc_client")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-port", type=int, required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--connect-s", type=float, required=True)
    parser.add_argument("runner", nargs="*")
    return parser


def _connect(rpc: Any, port: int, connect_s: float, frames_fd: int) -> Any:
    """A session; where nothing listens yet, it is tried again until the time is over."""
    deadline_s = time.monotonic() + connect_s
    # A server that serves somebody else lets everybody wait, without end.
    busy = "the server does not answer; it serves one session at a time, and may have one"
    watchdog = threading.Timer(connect_s, _give_up, (frames_fd, "unreachable", busy))
    watchdog.daemon = True
    watchdog.start()
    while True:
        try:
            session = rpc.connect("127.0.0.1", port)
        except RuntimeError as error:
            if time.monotonic() + _RETRY_S > deadline_s:
                _give_up(frames_fd, "unreachable", _reason(error))
            time.sleep(_RETRY_S)
        else:
            watchdog.cancel()
            return session


def _load(session: Any, library: Path) -> Any:
    name = f"{library.name}.so"  # the server knows kinds of files by their names
    session.upload(str(library), name)
    return session.load_module(name)


def _reason(error: Exception) -> str:
    """What an error of TVM's says, without where in its code it was noticed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _CHECK.sub("", lines[-1]) if lines else type(error).__name__


def _give_up(frames_fd: int, reason: str, detail: str) -> NoReturn:
    """Say why, and end at once, whatever other threads are in."""
    failure = {"failure": {"reason": reason, "detail": detail}}
    _write_all(frames_fd, encode_frame(Frame(failure)))
    os._exit(0)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


if __name__ == "__main__":
    main()
