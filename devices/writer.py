"""Frames written whole, and heartbeats between them."""

from __future__ import annotations

import threading
from typing import Final

from devices.protocol import Frame, Stream, encode_frame

#: Tells the runner that the host lives; answered with the same at once, whatever else runs.
BEAT: Final = encode_frame(Frame({"op": "beat"}))
#: A beat may be late by twice as long as it takes to the next one, and nobody minds.
_BEATS_PER_SILENCE: Final = 4


class FrameWriter:
    """The only one that writes to a stream, so that no frame is ever inside another."""

    def __init__(self, stream: Stream, silence_s: float | None) -> None:
        """Begin to send beats.

        Args:
            stream: Written to until `stop`, and never closed here.
            silence_s: After so long without a beat the runner ends itself; None sends none.
        """
        self._stream = stream
        self._lock = threading.Lock()
        self._is_whole = True
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if silence_s is not None:
            # A daemon: it must not keep alive a program that ends without closing its sessions.
            self._thread = threading.Thread(target=self._beat, args=(silence_s,), daemon=True)
            self._thread.start()

    def write(self, frame: bytes, timeout_s: float) -> None:
        """Write a frame.

        Raises:
            TimeoutError: the other side did not take it in time.
            OSError: the link is broken, or a frame before this one was broken off.
        """
        with self._lock:
            self._write(frame, timeout_s)

    def stop(self) -> None:
        """End the beats; the stream may be closed afterwards."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _write(self, frame: bytes, timeout_s: float) -> None:
        if not self._is_whole:
            raise BrokenPipeError("a frame was broken off")
        self._is_whole = False  # and stays so after an error or an interrupt
        self._stream.write_all(frame, timeout_s)
        self._is_whole = True

    def _beat(self, silence_s: float) -> None:
        while not self._stopped.wait(silence_s / _BEATS_PER_SILENCE):
            try:
                self.write(BEAT, silence_s)
            except OSError:  # who reads answers will find the link broken, too
                return
