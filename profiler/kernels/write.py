"""A schedule of an operator as a TIR function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import tvm
from tvm import s_tir

from profiler.fast_math import with_fast_math
from profiler.kernels import (
    channelwise,
    conv,
    elementwise,
    gemm,
    matmul,
    rowwise,
    separable,
    winograd,
)
from profiler.operator import Operator
from profiler.schedules import conv as conv_rules
from profiler.schedules import elementwise as elementwise_rules
from profiler.schedules import gemm as gemm_rules
from profiler.schedules import generic
from profiler.schedules import matmul as matmul_rules
from profiler.schedules import rowwise as rowwise_rules
from profiler.schedules import separable as separable_rules
from profiler.schedules import window as window_rules
from profiler.schedules import winograd as winograd_rules
from profiler.schedules.schedule import Schedule
from profiler.target import Target

_OF_LOOPS: Final[Mapping[str, Callable[[Any, Schedule], Any]]] = {
    matmul_rules.RULE: matmul.write,
    rowwise_rules.RULE: rowwise.write,
}
_WRITERS: Final[Mapping[str, Callable[[Operator, Schedule], Any]]] = {
    gemm_rules.RULE: gemm.write,
    conv_rules.RULE: conv.write,
    winograd_rules.RULE: winograd.write,
    window_rules.RULE: channelwise.write,
    separable_rules.RULE: separable.write,
    elementwise_rules.MEAN_RULE: elementwise.write_mean,
    elementwise_rules.ONCE_RULE: elementwise.write_once,
}


def write_kernel(
    operator: Operator, schedule: Schedule, target: Target, loops: str | None = None
) -> tvm.tirx.PrimFunc:
    """The operator as TIR, laid out as a schedule says.

    Args:
        operator: What is computed.
        schedule: How its loops are laid out.
        target: What code is generated for.
        loops: The text of a generic operator's loops.

    Raises:
        ValueError: no rule of that name.
    """
    if loops is not None:
        return _write_loops(tvm.script.from_source(loops), schedule, target)
    write = _WRITERS.get(schedule.rule)
    if write is None:
        raise ValueError(
            f"schedule rule must be one that this version knows, got {schedule.rule!r}"
        )
    return write(operator, schedule)


def _write_loops(source: tvm.tirx.PrimFunc, schedule: Schedule, target: Target) -> Any:
    write = _OF_LOOPS.get(schedule.rule)
    if write is not None:
        return write(source, schedule)
    sch = s_tir.Schedule(source)
    generic.apply(schedule, sch, target)
    return with_fast_math(sch.mod["main"])
