"""Requests as a runner in Python reads them; `devices.messages` writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast, get_args

from devices.device import (
    DTYPE_BYTES,
    Fill,
    KernelCall,
    Region,
    Tensor,
    TimingPlan,
    Workload,
)
from devices.errors import ProtocolError
from devices.messages import Message

_Part = TypeVar("_Part")


def read_workload(message: object) -> Workload:
    """A workload from a request; its weights, if any, are no part of it.

    Raises:
        ProtocolError: a part is missing or makes no sense.
    """
    if not isinstance(message, dict):
        raise ProtocolError(f"not a workload: {message!r}")
    tensors = _read_each(message.get("tensors"), _read_tensor)
    calls = _read_each(message.get("calls"), _read_call)
    for call in calls:
        if not all(0 <= index < len(tensors) for index in call.tensors):
            raise ProtocolError(f"{call.kernel} is called on tensors that are not there")
    return Workload(tensors, calls, 0, 0)


def read_plan(message: object) -> TimingPlan:
    """A timing plan from a request, without the time-out that stands beside it.

    Raises:
        ProtocolError: a part is missing or out of range.
    """
    if not isinstance(message, dict):
        raise ProtocolError(f"not a plan: {message!r}")
    return TimingPlan(
        warmup_ns=read_count(message, "warmup_ns"),
        min_block_ns=read_count(message, "min_block_ns"),
        n_blocks=read_count(message, "n_blocks", least=1),
        with_timestamps=message.get("with_timestamps") is True,
        timeout_ms=0,
    )


def read_count(message: Message, key: str, least: int = 0) -> int:
    """A whole number that must not be below a bound.

    Raises:
        ProtocolError: it is missing or out of range.
    """
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ProtocolError(f"{key} must be a whole number >= {least}, got {value!r}")
    return value


def read_counts(values: object) -> tuple[int, ...]:
    """Whole numbers that are not negative.

    Raises:
        ProtocolError: they are something else.
    """
    if not isinstance(values, Sequence) or not all(
        isinstance(value, int) and value >= 0 for value in values
    ):
        raise ProtocolError(f"not whole numbers: {values!r}")
    return tuple(values)


def _read_each(values: object, read: Callable[[dict[str, object]], _Part]) -> tuple[_Part, ...]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ProtocolError(f"not a list of objects: {values!r}")
    return tuple(map(read, values))


def _read_tensor(message: dict[str, object]) -> Tensor:
    region, dtype, fill = (message.get(name) for name in ("region", "dtype", "fill"))
    if region not in get_args(Region) or dtype not in DTYPE_BYTES:
        raise ProtocolError(f"not a tensor: {message!r}")
    shape = read_counts(message.get("shape"))
    offset = read_count(message, "offset")
    return Tensor(cast(Region, region), offset, shape, _read_fill(fill), str(dtype))


def _read_fill(message: object) -> Fill | None:
    if message is None:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("scale"), int | float):
        raise ProtocolError(f"not a fill: {message!r}")
    return Fill(read_count(message, "seed"), float(message["scale"]))


def _read_call(message: dict[str, object]) -> KernelCall:
    return KernelCall(str(message.get("kernel")), read_counts(message.get("tensors")))
