"""The short list of schedules for an operator; nothing here needs TVM.

To add one: write a module with `candidates` here and one with its code in `profiler.kernels`,
and name its rule in both `space.py` and `kernels/write.py`; in `threads.py`, too, if its tiles can
be shared among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from profiler.generic import LoopForm
from profiler.layout import is_pointwise
from profiler.operator import Operator
from profiler.schedules import (
    conv,
    elementwise,
    gemm,
    generic,
    matmul,
    rowwise,
    separable,
    threads,
    window,
    winograd,
)
from profiler.schedules.schedule import Schedule
from profiler.target import Target

#: Grows when a rule changes the code it makes, so that what was measured with the old code is not
#: taken for the new one's. The build cache sees a changed source by itself.
VERSION = 8


#: Kinds that have one rule each, whatever their shapes.
_RULES: Final[Mapping[str, Callable[[Operator, Target], tuple[Schedule, ...]]]] = {
    "depthwise_conv2d": window.candidates,
    "avg_pool2d": window.candidates,
    "max_pool2d": window.candidates,
    "separable_conv2d": separable.candidates,
    "global_avg_pool2d": elementwise.mean_candidates,
}


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Schedules worth trying for an operator, the most promising first; never empty."""
    found = _of_one_thread(operator, target)
    return found if target.threads == 1 else threads.shared(operator, found, target)


def _of_one_thread(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    if operator.body is not None:
        return (*_of_form(operator.body.form, target), *generic.candidates(operator, target))
    if is_pointwise(operator):
        return gemm.candidates(operator, target)
    if operator.kind in _RULES:
        return _RULES[operator.kind](operator, target)
    if operator.kind == "conv2d":
        return (*conv.candidates(operator, target), *winograd.candidates(operator, target))
    return elementwise.once_candidates(operator, target)


def default_schedule(operator: Operator, target: Target) -> Schedule:
    """The schedule that is used where nothing has been measured."""
    return candidates(operator, target)[0]


def _of_form(form: LoopForm | None, target: Target) -> tuple[Schedule, ...]:
    if form is None:
        return ()
    if form.rule == matmul.RULE:
        return matmul.candidates(form, target)
    return rowwise.candidates(form, target)
