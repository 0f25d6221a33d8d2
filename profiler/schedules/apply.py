"""Apply a schedule to an operator with TVM."""

from __future__ import annotations

import tvm
from tvm import s_tir

from profiler.fast_math import with_fast_math
from profiler.lower import lower
from profiler.operator import Operator
from profiler.schedules import elementwise, gemm, generic, window
from profiler.schedules.schedule import Schedule
from profiler.target import Target


def scheduled(
    operator: Operator, schedule: Schedule, target: Target, loops: str | None = None
) -> tvm.tirx.PrimFunc:
    """The operator as TIR with its loops laid out.

    Args:
        operator: What is computed.
        schedule: How its loops are laid out.
        target: What code is generated for.
        loops: The text of a generic operator's loops.

    Raises:
        ValueError: no rule of that name.
    """
    function = lower(operator, schedule) if loops is None else tvm.script.from_source(loops)
    sch = s_tir.Schedule(function)
    padded = any(operator.padding)
    if schedule.rule == generic.RULE:
        generic.apply(schedule, sch, target)
    elif schedule.rule == gemm.RULE:
        gemm.apply(schedule, sch, target)
    elif schedule.rule == window.CONV_RULE:
        window.apply_conv(schedule, sch, target, padded=padded)
    elif schedule.rule == window.WINDOW_RULE:
        window.apply_window(schedule, sch, target, padded=padded)
    elif schedule.rule == elementwise.GLOBAL_RULE:
        elementwise.apply_global(schedule, sch, target)
    elif schedule.rule == elementwise.ELEMENTWISE_RULE:
        elementwise.apply_elementwise(schedule, sch, target)
    else:
        raise ValueError(
            f"schedule rule must be one that this version knows, got {schedule.rule!r}"
        )
    # The other operators' own loops have no such calls.
    return sch.mod["main"] if loops is None else with_fast_math(sch.mod["main"])
