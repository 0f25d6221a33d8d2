"""Functions of single numbers as arithmetic that runs in vectors.

Left alone, each becomes a call of the C library's for one number at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import tvm
import tvm_ffi
from tvm import tirx

Expression = Any


def with_fast_math(function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    """A function whose exponentials and the like on float32 are arithmetic; see `FUNCTIONS`."""
    body = tvm_ffi.structural_map(function.body, (tvm.ir.Call, _replaced))
    return tirx.PrimFunc(function.params, body, function.ret_type, function.attrs)


def exponential(x: Expression) -> Expression:
    """exp(x) as a vectorisable polynomial, relative error below 3e-7 for |x| <= 87, clipped there.

    exp(x) = 2^n exp(r), n = floor(x / ln 2 + 1/2), r = x - n ln 2 in two parts (Cody & Waite
    1980), exp(r) by its Taylor series to the seventh power: |r| <= 0.3466, remainder below 6e-9.
    """
    x = tirx.min(tirx.max(x, _number(-87)), _number(87))
    n = tirx.floor(x * _number(1.4426950408889634) + _number(0.5))
    r = x - n * _number(0.693359375) + n * _number(2.12194440e-4)
    series = _number(1 / 5040)
    for factorial in (720, 120, 24, 6, 2, 1, 1):
        series = series * r + _number(1 / factorial)
    exponent = tirx.shift_left(tirx.Cast("int32", n) + tirx.const(127, "int32"), 23)
    return series * tirx.reinterpret("float32", exponent)


def sigmoid(x: Expression) -> Expression:
    """1 / (1 + exp(-x)), absolute error below 3e-7."""
    return _number(1) / (_number(1) + exponential(_number(0) - x))


def hyperbolic_tangent(x: Expression) -> Expression:
    """1 - 2 / (1 + exp(2 x)), absolute error below 3e-7."""
    return _number(1) - _number(2) / (_number(1) + exponential(x + x))


def error_function(x: Expression) -> Expression:
    """erf(x), absolute error below 5e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    size = tirx.max(x, _number(0) - x)
    t = _number(1) / (_number(1) + _number(0.3275911) * size)
    series = _number(0)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + _number(factor)) * t
    result = _number(1) - series * exponential(_number(0) - x * x)
    return tirx.Select(x < _number(0), _number(0) - result, result)


#: What is replaced, by TIR's names.
FUNCTIONS: Final[dict[str, Callable[[Expression], Expression]]] = {
    "tirx.erf": error_function,
    "tirx.exp": exponential,
    "tirx.sigmoid": sigmoid,
    "tirx.tanh": hyperbolic_tangent,
}

#: The compiler looks through what is written once: each nested function takes it 16 times as long.
_MOST_INSIDE: Final = 2


def _replaced(call: Any) -> Any:
    write = FUNCTIONS.get(getattr(call.op, "name", ""))
    if write is None or str(call.ty.dtype) != "float32":
        return call
    inner: list[Any] = []
    tvm_ffi.structural_walk(call.args[0], (tirx.Let, inner.append))
    if len(inner) > _MOST_INSIDE:
        return call
    # The argument is written once: nested functions would double it again and again.
    x = tirx.Var("x", "float32")
    return tirx.Let(x, call.args[0], write(x))


def _number(value: float) -> Expression:
    return tirx.const(value, "float32")
