"""ONNX Runtime's runner: `python -m devices.ort_runner LIST` has frames on stdin and stdout.

ONNX Runtime is loaded once; each visit is a fresh fork of this process, so that a model that
crashes or hangs costs the visit alone, and no visit inherits another's memory.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from devices.blocks import Blocks, Stopwatch, count_preemptions, measure_tick_ns, time_blocks
from devices.conditions import read_conditions
from devices.device import Failure, Workload
from devices.errors import DeviceError, ProtocolError
from devices.forked import run_forked
from devices.inbox import Inbox
from devices.messages import Message
from devices.ort import read_model_list
from devices.ort_visit import MODEL_ERRORS, BoundModel, bind_model
from devices.protocol import PROTOCOL_VERSION, Frame, PipeStream, encode_frame
from devices.requests import read_count, read_counts, read_plan, read_workload
from devices.system_files import read_text

#: An answer must be taken after this long.
_FRAME_TIMEOUT_S: Final = 60.0
_OPS: Final = ("time", "run")


@dataclass(frozen=True, slots=True)
class Board:
    """What visits need to know.

    Attributes:
        models: ONNX files by name.
        root: Where `proc` and `sys` are found.
        tick_ns: Smallest step of the clock.
    """

    models: Mapping[str, Path]
    root: Path
    tick_ns: int


def serve(stream: PipeStream, board: Board, silence_s: float | None) -> None:
    """Answer requests until the host asks to stop or is gone.

    Raises:
        DeviceError: the host is gone during a visit or silent, or its bytes make no sense.
    """
    inbox = Inbox(stream, silence_s)
    while (frame := inbox.next()) is not None:
        request_id, op = frame.message.get("id"), frame.message.get("op")
        if op == "describe":
            answer = encode_frame(Frame({"id": request_id, **_describe(board)}))
        elif op == "stop":
            answer = encode_frame(Frame({"id": request_id}))
        else:
            answer = _visit(frame, board, inbox)
        stream.write_all(answer, _FRAME_TIMEOUT_S)
        if op == "stop":
            return


def _describe(board: Board) -> Message:
    return {
        "protocol": PROTOCOL_VERSION,
        "kernels": list(board.models),
        "tick_ns": board.tick_ns,
        "clock": "CLOCK_MONOTONIC",
        "page_bytes": os.sysconf("SC_PAGESIZE"),
        "pid": os.getpid(),
        "boot_id": read_text(board.root, "proc/sys/kernel/random/boot_id"),
    }


def _visit(frame: Frame, board: Board, host: Inbox) -> bytes:
    """The answer of a child that works on a request, or how it failed, as a frame."""
    try:
        timeout_ms = read_count(frame.message, "timeout_ms", least=1)
    except ProtocolError as error:
        return _failure(frame, Failure("bad_request", str(error)))
    answer = run_forked(lambda: _work(frame, board), timeout_ms, host)
    return _failure(frame, answer) if isinstance(answer, Failure) else answer


def _failure(frame: Frame, failure: Failure) -> bytes:
    return encode_frame(Frame({"id": frame.message.get("id"), "failure": asdict(failure)}))


def _work(frame: Frame, board: Board) -> bytes:
    """In the child: do what the request asks for."""
    message = frame.message
    try:
        if message.get("op") not in _OPS:
            raise ProtocolError(f"op must be one of {', '.join(_OPS)}, got {message.get('op')!r}")
        workload = read_workload(message.get("workload"))
        core = None if message.get("core") is None else read_count(message, "core")
        helper_cores = read_counts(message.get("helper_cores", []))
        for each in (*helper_cores, core):  # the last one is where this thread stays
            if each is not None:
                os.sched_setaffinity(0, {each})
        inputs = _read_inputs(frame, workload)
        bound = bind_model(board.models, workload, inputs, helper_cores)
        if isinstance(bound, Failure):
            return _failure(frame, bound)
        if message["op"] == "run":
            return _run(frame, bound)
        return _time(frame, bound, board, core)
    except (ProtocolError, OSError) as error:  # of the operating system: no such core
        return _failure(frame, Failure("bad_request", str(error)))
    except MODEL_ERRORS as error:
        return _failure(frame, Failure("kernel_error", str(error)))


def _read_inputs(frame: Frame, workload: Workload) -> dict[int, NDArray[Any]]:
    """Tensors that the request's blob holds, by index."""
    arrays, start = {}, 0
    for index in read_counts(frame.message.get("inputs", [])):
        if index >= len(workload.tensors):
            raise ProtocolError(f"input {index} is no tensor of the workload")
        tensor = workload.tensors[index]
        part = frame.blob[start : start + tensor.n_bytes]
        if len(part) != tensor.n_bytes:
            raise ProtocolError(f"the inputs need more than the blob's {len(frame.blob)} bytes")
        arrays[index] = np.frombuffer(part, tensor.dtype).reshape(tensor.shape)
        start += tensor.n_bytes
    return arrays


def _run(frame: Frame, bound: BoundModel) -> bytes:
    outputs = read_counts(frame.message.get("outputs"))
    if not all(index in bound.values for index in outputs):
        raise ProtocolError(f"outputs must be tensors of the model, got {outputs}")
    bound.run()
    return encode_frame(Frame({"id": frame.message.get("id")}, bound.read(outputs)))


def _time(frame: Frame, bound: BoundModel, board: Board, core: int | None) -> bytes:
    plan = read_plan(frame.message.get("plan"))
    watch = Stopwatch(
        now_ns=time.perf_counter_ns,
        tick_ns=board.tick_ns,
        preemptions=count_preemptions,
        conditions=lambda: read_conditions(board.root, core),
    )
    gc.disable()  # its pauses are no part of the model
    blocks = time_blocks(bound.run, plan, watch)
    return _timing(frame, blocks, board.tick_ns)


def _timing(frame: Frame, blocks: Blocks, tick_ns: int) -> bytes:
    message = {
        "id": frame.message.get("id"),
        "n_repeats": blocks.n_repeats,
        "tick_ns": tick_ns,
        "n_preemptions": blocks.n_preemptions,
        "n_timestamped": 0,  # inside a model nothing can be timed
        "block_ns": blocks.block_ns,
        "before": asdict(blocks.before),
        "after": asdict(blocks.after),
    }
    return encode_frame(Frame(message))


def _take_channel() -> PipeStream:
    """Move the host's channel away from stdin and stdout: whatever prints must not write there."""
    stream = PipeStream(os.dup(0), os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    os.close(nowhere)
    return stream


def main() -> None:
    """Serve the host on stdin and stdout."""
    parser = argparse.ArgumentParser(prog="devices.ort_runner")
    parser.add_argument("models", type=Path, help="list of models, see devices.ort")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where proc and sys are")
    parser.add_argument("--silence-ms", type=int, help="end when the host is silent for so long")
    arguments = parser.parse_args()
    stream = _take_channel()
    board = Board(read_model_list(arguments.models), arguments.root, measure_tick_ns())
    silence_s = None if arguments.silence_ms is None else arguments.silence_ms / 1000
    gc.freeze()  # children must not copy pages because the collector marks what is on them
    try:
        serve(stream, board, silence_s)
    except DeviceError as error:
        raise SystemExit(str(error) or None) from None


if __name__ == "__main__":
    main()
