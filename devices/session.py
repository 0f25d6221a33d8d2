"""The host's side of a running executable, over any pair of byte streams."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from devices.device import Failure, Timing, TimingPlan, TimingRequest, Workload
from devices.errors import ProtocolError, RunnerLostError, StaleLeaseError
from devices.lease import refusal
from devices.messages import (
    Message,
    RunnerDescription,
    plan_message,
    read_description,
    read_failure,
    read_outputs,
    read_timing,
    workload_message,
)
from devices.protocol import PROTOCOL_VERSION, Frame, Stream, encode_frame, read_frame
from devices.writer import FrameWriter

#: What the link and the runner may take beyond the time-out that the runner itself keeps.
GRACE_S: Final = 20.0
#: Requests sent before the first is answered, so that the board need not wait for the link.
N_AHEAD: Final = 4
#: Both sides could wait for each other to read if more than a pipe holds were under way.
_MAX_BYTES_AHEAD: Final = 32 * 1024
#: With heartbeats the runner reads all the time, into a queue that is larger than this.
_MAX_BYTES_AHEAD_READ: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that waits for its answer."""

    id: int
    n_bytes: int
    timeout_s: float


class RunnerSession:
    """A `Runner` that is reached through a stream.

    After `RunnerLostError` every further call raises it again: start another.
    """

    def __init__(
        self,
        stream: Stream,
        cores: tuple[int, ...] = (),
        end: Callable[[], str] = lambda: "",
        *,
        place: Callable[[Path], str] = str,
        silence_s: float | None = None,
        name: str = "",
    ) -> None:
        """Take over the stream and ask the runner who it is.

        Args:
            stream: Owned by this session from now on.
            cores: The cores that threads of children are pinned to, the measuring one first;
                with none there is one thread, pinned nowhere.
            end: Ends the runner's process if it still lives and returns its last words; called
                once, after the stream is closed.
            place: Says where a file of this machine lies on the board, having put it there.
            silence_s: Heartbeats go both ways, and a runner that sends no byte for so long while
                it is waited for is lost. The runner has to be told the same. None sends none.
            name: The device's, for messages.

        Raises:
            RunnerLostError: the runner does not answer or speaks another protocol.
            LeaseHeldError: somebody else measures on the board.
            LeaseFailedError, DeviceFullError: the board's lease cannot be taken.
        """
        self._stream = stream
        self._cores = cores
        self._end = end
        self._place = place
        self._name = name
        self._writer = FrameWriter(stream, silence_s)
        self._silence_s: float | None = None  # not before it has started and taken its lease
        self._next_id = 0
        self._pending: deque[_Pending] = deque()
        self._lost: str | None = None
        self._broken: str | None = None
        try:
            self.description: RunnerDescription = self._describe()
        except BaseException:  # an interrupt, too, must not leave a runner behind
            self._finish("the runner was not described")
            raise
        self._silence_s = silence_s

    def time(self, workload: Workload, plan: TimingPlan) -> Timing | Failure:
        """See `devices.device.Runner`."""
        return next(self.time_many([(workload, plan)]))

    def time_many(self, items: Sequence[TimingRequest]) -> Iterator[Timing | Failure]:
        """Time workloads one after the other, a few requests sent ahead.

        A list may grow meanwhile; see `devices.device.Runner`. The iterator may be left early:
        answers that still come are thrown away. It may not be resumed after another request was
        made.

        Returns:
            One result an item, in order.

        Raises:
            RunnerLostError: the runner is gone; what was returned so far stays valid.
            RuntimeError: another request was made between two results.
        """
        n_sent = 0
        ids: list[int] = []
        for position, (workload, plan) in enumerate(items):
            while n_sent < len(items) and (n_sent <= position or n_sent < position + N_AHEAD):
                request = self._encode_timing(*items[n_sent])
                if n_sent > position and not self._fits_ahead(request):
                    break
                ids.append(self._send(request, items[n_sent][1].timeout_ms / 1000))
                n_sent += 1
            yield self._read_timing(self._receive(ids[position]), workload, plan)

    def run(
        self,
        workload: Workload,
        inputs: Mapping[int, NDArray[Any]],
        outputs: tuple[int, ...],
        timeout_ms: int,
    ) -> dict[int, NDArray[Any]] | Failure:
        """See `devices.device.Runner`.

        Raises:
            ValueError: an input's shape is not its tensor's, or an index is out of range.
            RunnerLostError: the runner is gone.
        """
        for index in (*inputs, *outputs):
            if not 0 <= index < len(workload.tensors):
                raise ValueError(f"tensor must be below {len(workload.tensors)}, got {index}")
        for index, array in inputs.items():
            if array.shape != workload.tensors[index].shape:
                raise ValueError(
                    f"input {index} must have shape {workload.tensors[index].shape}, "
                    f"got {array.shape}"
                )
        message = {
            "op": "run",
            "workload": workload_message(workload, self._place),
            "inputs": list(inputs),
            "outputs": outputs,
            "timeout_ms": timeout_ms,
        }
        blob = b"".join(
            np.asarray(array, workload.tensors[index].dtype).tobytes()
            for index, array in inputs.items()
        )
        frame = self._ask(message, timeout_ms / 1000, blob)
        try:
            return read_failure(frame.message) or read_outputs(frame, workload, outputs)
        except ProtocolError as error:
            raise self._give_up(error) from error

    def close(self) -> None:
        """Stop the runner and its children; safe to call twice."""
        if self._lost is None:
            # Children of unanswered requests die when the runner sees the stream closed.
            if not self._pending:
                with suppress(RunnerLostError):
                    self._ask({"op": "stop"}, 0.0)
            self._finish("the session is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _describe(self) -> RunnerDescription:
        frame = self._ask({"op": "describe"}, 0.0)
        if frame.message.get("failure") is not None:
            raise refusal(frame.message, self._name)
        version = frame.message.get("protocol")
        if version != PROTOCOL_VERSION:
            said = f"the runner speaks protocol {version}, this host {PROTOCOL_VERSION}"
            raise self._give_up(ProtocolError(said))
        return read_description(frame.message)

    def _read_timing(self, frame: Frame, workload: Workload, plan: TimingPlan) -> Timing | Failure:
        try:
            failure = read_failure(frame.message)
            return failure or read_timing(frame, len(workload.calls), plan.with_timestamps)
        except ProtocolError as error:
            raise self._give_up(error) from error

    def _encode(self, message: Message, blob: bytes = b"") -> bytes:
        first, others = (self._cores[0], self._cores[1:]) if self._cores else (None, ())
        numbered = {"id": self._next_id, "core": first, "helper_cores": others, **message}
        return encode_frame(Frame(numbered, blob))

    def _encode_timing(self, workload: Workload, plan: TimingPlan) -> bytes:
        return self._encode(
            {
                "op": "time",
                "workload": workload_message(workload, self._place),
                "plan": plan_message(plan),
                "timeout_ms": plan.timeout_ms,
            }
        )

    def _fits_ahead(self, request: bytes) -> bool:
        n_ahead = sum(pending.n_bytes for pending in self._pending)
        is_read = self._silence_s is not None
        return n_ahead + len(request) <= (_MAX_BYTES_AHEAD_READ if is_read else _MAX_BYTES_AHEAD)

    def _ask(self, message: Message, timeout_s: float, blob: bytes = b"") -> Frame:
        return self._receive(self._send(self._encode(message, blob), timeout_s))

    def _send(self, request: bytes, timeout_s: float) -> int:
        if self._lost is not None:
            raise RunnerLostError(self._lost)
        # Before a long request is sent, whatever was left unread is read, lest both sides write.
        while self._pending and not self._fits_ahead(request):
            self._receive_any()
        pending = _Pending(self._next_id, len(request), timeout_s)
        self._next_id += 1
        # Noted before it is sent: an interrupt on the way must not look like an idle runner.
        self._pending.append(pending)
        if self._broken is None:
            try:
                self._writer.write(request, GRACE_S + sum(p.timeout_s for p in self._pending))
            except OSError as error:  # TimeoutError is one
                self._broken = f"cannot send to the runner: {error}"
        # Answers to earlier requests may be on their way, and tell what ran last; behind them the
        # stream ends. Nothing is sent behind a part of a frame.
        if self._broken is not None and len(self._pending) == 1:
            raise self._give_up(RunnerLostError(self._broken))
        return pending.id

    def _receive(self, wanted_id: int) -> Frame:
        if self._lost is None and all(pending.id != wanted_id for pending in self._pending):
            raise RuntimeError("time_many was resumed after another request was made")
        while True:
            answered_id, frame = self._receive_any()
            if answered_id == wanted_id:
                return frame

    def _receive_any(self) -> tuple[int, Frame]:
        if self._lost is not None or not self._pending:
            raise RunnerLostError(self._lost or "no request waits for an answer")
        pending = self._pending[0]
        try:
            ran_s = 0.0 if self._broken else pending.timeout_s
            frame = self._read_answer(ran_s + GRACE_S)
            if frame.message.get("id") != pending.id:
                raise ProtocolError(
                    f"expected the answer to {pending.id}, got {frame.message.get('id')!r}"
                )
            self._check_generation(frame.message)
        except RunnerLostError as error:
            raise self._give_up(error) from error
        self._pending.popleft()
        return pending.id, frame

    def _check_generation(self, answer: Message) -> None:
        """See that the board still was ours when it answered."""
        is_described = self._next_id > 1  # the first answer is the description
        if is_described and answer.get("generation") != self.description.generation:
            raise StaleLeaseError(
                f"an answer of session {answer.get('generation')} came to session "
                f"{self.description.generation}: the board has been given to another"
            )

    def _read_answer(self, timeout_s: float) -> Frame:
        """The next frame that is no beat."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            left_s = max(deadline_s - time.monotonic(), 0.0)
            frame = read_frame(self._stream, left_s, silence_s=self._silence_s)
            if frame.message.get("op") != "beat":
                break
        return frame

    def _give_up(self, error: RunnerLostError) -> RunnerLostError:
        self._finish(str(error))
        return type(error)(self._lost)

    def _finish(self, why: str) -> None:
        if self._lost is not None:
            return
        why = f"{self._name}: {why}" if self._name else why
        self._writer.stop()
        self._stream.close()
        last_words = self._end()
        self._lost = f"{why}: {last_words}" if last_words else why
        self._pending.clear()
