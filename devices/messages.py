"""Requests and answers of the runner as Python values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from devices.device import (
    Conditions,
    Failure,
    FailureReason,
    Tensor,
    Timing,
    TimingPlan,
    Workload,
)
from devices.errors import ProtocolError
from devices.protocol import Frame

Message = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RunnerDescription:
    """What a runner says of itself.

    Attributes:
        protocol: Version of the protocol that it speaks.
        kernels: Names of the kernels linked into it.
        tick_ns: Smallest step of its clock.
        clock: The system's name of that clock.
        page_bytes: Size of a memory page.
        pid: Its process on the board.
        boot_id: Changes when the board starts anew; "" where the board does not tell.
        generation: The session's number in the board's lease, or None without a lease.
    """

    protocol: int
    kernels: tuple[str, ...]
    tick_ns: int
    clock: str
    page_bytes: int
    pid: int
    boot_id: str
    generation: int | None = None


def _tensor_message(tensor: Tensor) -> Message:
    return {
        "region": tensor.region,
        "offset": tensor.offset_bytes,
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "fill": None if tensor.fill is None else asdict(tensor.fill),
    }


def workload_message(workload: Workload, place: Callable[[Path], str] = str) -> Message:
    """A workload as the runner reads it; `place` says where a file lies on the board."""
    file = workload.weights_file
    return {
        "tensors": [_tensor_message(tensor) for tensor in workload.tensors],
        "calls": [{"kernel": c.kernel, "tensors": c.tensors} for c in workload.calls],
        "arena_bytes": workload.arena_bytes,
        "weight_bytes": workload.weight_bytes,
        "weights_file": None if file is None else place(file),
    }


def plan_message(plan: TimingPlan) -> Message:
    """A timing plan as the runner reads it; the time-out stands beside it."""
    return {
        "warmup_ns": plan.warmup_ns,
        "min_block_ns": plan.min_block_ns,
        "n_blocks": plan.n_blocks,
        "with_timestamps": plan.with_timestamps,
    }


def read_failure(message: Message) -> Failure | None:
    """The failure that an answer carries, if it does."""
    failure = message.get("failure")
    if failure is None:
        return None
    if not isinstance(failure, dict) or failure.get("reason") not in get_args(FailureReason):
        raise ProtocolError(f"not a failure: {failure!r}")
    return Failure(cast(FailureReason, failure["reason"]), str(failure.get("detail", "")))


def _int(message: Message, key: str) -> int:
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"{key} must be a whole number, got {value!r}")
    return value


def _ints(message: Message, key: str) -> tuple[int, ...]:
    values = message.get(key)
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise ProtocolError(f"{key} must be a list of whole numbers, got {values!r}")
    return tuple(values)


def _float_or_none(message: Message, key: str) -> float | None:
    value = message.get(key)
    if value is not None and not isinstance(value, int | float):
        raise ProtocolError(f"{key} must be a number or null, got {value!r}")
    return None if value is None else float(value)


def _int_or_none(message: Message, key: str) -> int | None:
    value = _float_or_none(message, key)
    return None if value is None else int(value)


def _text_or_none(message: Message, key: str) -> str | None:
    value = message.get(key)
    if value is not None and not isinstance(value, str):
        raise ProtocolError(f"{key} must be a text or null, got {value!r}")
    return value


def _conditions(message: object) -> Conditions:
    if not isinstance(message, dict):
        raise ProtocolError(f"not conditions: {message!r}")
    return Conditions(
        load_1min=_float_or_none(message, "load_1min"),
        n_running=_int_or_none(message, "n_running"),
        steal_ticks=_int_or_none(message, "steal_ticks"),
        clock_mhz=_float_or_none(message, "clock_mhz"),
        temperature_c=_float_or_none(message, "temperature_c"),
        throttle_events=_int_or_none(message, "throttle_events"),
        throttle_flags=_int_or_none(message, "throttle_flags"),
        governor=_text_or_none(message, "governor"),
    )


def read_timing(frame: Frame, n_calls: int, with_timestamps: bool) -> Timing:
    """A timing from the runner's answer, which is no failure.

    Raises:
        ProtocolError: a part is missing, or the blob does not have n_calls columns.
    """
    message = frame.message
    n_rows = _int(message, "n_timestamped")
    if len(frame.blob) != n_rows * n_calls * 8:
        raise ProtocolError(
            f"{n_rows} x {n_calls} timestamps need {n_rows * n_calls * 8} bytes, "
            f"got {len(frame.blob)}"
        )
    stamps = np.frombuffer(frame.blob, dtype="<i8").reshape(n_rows, n_calls).astype(np.int64)
    return Timing(
        n_repeats=_int(message, "n_repeats"),
        block_ns=_ints(message, "block_ns"),
        call_ns=stamps if with_timestamps else None,
        tick_ns=_int(message, "tick_ns"),
        n_preemptions=_int(message, "n_preemptions"),
        before=_conditions(message.get("before")),
        after=_conditions(message.get("after")),
    )


def read_outputs(
    frame: Frame, workload: Workload, outputs: Sequence[int]
) -> dict[int, NDArray[Any]]:
    """Tensors by index from the runner's answer, which is no failure.

    Raises:
        ProtocolError: the blob is longer or shorter than they are.
    """
    wanted = sum(workload.tensors[index].n_bytes for index in outputs)
    if len(frame.blob) != wanted:
        raise ProtocolError(f"the outputs have {wanted} bytes, got {len(frame.blob)}")
    arrays, start = {}, 0
    for index in outputs:
        tensor = workload.tensors[index]
        part = frame.blob[start : start + tensor.n_bytes]
        arrays[index] = np.frombuffer(part, tensor.dtype).reshape(tensor.shape).copy()
        start += tensor.n_bytes
    return arrays


def read_description(message: Message) -> RunnerDescription:
    """A runner's description from its answer.

    Raises:
        ProtocolError: a part is missing.
    """
    kernels = message.get("kernels")
    if not isinstance(kernels, list):
        raise ProtocolError(f"kernels must be a list, got {kernels!r}")
    return RunnerDescription(
        protocol=_int(message, "protocol"),
        kernels=tuple(map(str, kernels)),
        tick_ns=_int(message, "tick_ns"),
        clock=str(message.get("clock")),
        page_bytes=_int(message, "page_bytes"),
        pid=_int(message, "pid"),
        boot_id=str(message.get("boot_id")),
        generation=_int_or_none(message, "generation"),
    )
