"""Functions of single numbers, or of vectors of them, as arithmetic that runs in vectors.

Left alone, each becomes a call of the C library's for one number at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import tvm
import tvm_ffi
from tvm import tirx

Expression = Any
Statement = Any


#: Gives a value that several places read a name, so that it is computed once; None where an
#: expression must stay one, whose copies the compiler then has to find.
Name = Callable[[Expression], Expression] | None
Function = Callable[[Expression, Name], Expression]


def with_fast_math(function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    """A function whose exponentials and the like on float32 are arithmetic; see `FUNCTIONS`."""
    body = tvm_ffi.structural_map(function.body, (tvm.ir.Call, _replaced))
    return tirx.PrimFunc(function.params, body, function.ret_type, function.attrs)


def exponential(x: Expression, name: Name) -> Expression:
    """exp(x) as a vectorisable polynomial, relative error below 3e-7 for |x| <= 87, clipped there.

    exp(x) = 2^n exp(r), n the whole number nearest x / ln 2, r = x - n ln 2 in two parts (Cody &
    Waite 1980). exp(r) for |r| <= ln 2 / 2 is a polynomial of the sixth degree, fitted for the
    least relative error (2e-9). Adding 1.5 x 2^23 leaves n in the low bits of a float32, and n
    added to the exponent's bits multiplies by 2^n.
    """
    x = _once(name, tirx.min(tirx.max(x, _number(-87)), _number(87)))
    shifted = _bits("int32", x * _number(1.4426950408889634) + _number(12582912.0))
    n = _once(name, shifted - tirx.const(0x4B400000, "int32"))
    whole = _once(name, tirx.Cast(_like("float32", x), n))
    r = _once(name, x - whole * _number(0.693359375) + whole * _number(2.12194440e-4))
    series = _number(_EXPONENTIAL[0])
    for factor in _EXPONENTIAL[1:]:
        series = series * r + _number(factor)
    scaled = _bits("int32", series) + tirx.shift_left(n, tirx.const(23, "int32"))
    return _bits("float32", scaled)


def reciprocal(x: Expression, name: Name) -> Expression:
    """1 / x for x from 1e-37 to 8e37, relative error below 2e-7; four times as fast as a division.

    The difference of a constant and the bits of x is within 12 % of its reciprocal; each of three
    steps of Newton's squares the error. A division where nothing can be named.
    """
    if name is None:
        return _number(1) / x
    x = _once(name, x)
    y = _once(name, _bits("float32", tirx.const(0x7EF311C3, "int32") - _bits("int32", x)))
    for _ in range(3):
        y = _once(name, y * (_number(2) - x * y))
    return y


def sigmoid(x: Expression, name: Name) -> Expression:
    """1 / (1 + exp(-x)), absolute error below 3e-7."""
    return reciprocal(_number(1) + exponential(_number(0) - x, name), name)


def hyperbolic_tangent(x: Expression, name: Name) -> Expression:
    """1 - 2 / (1 + exp(2 x)), absolute error below 3e-7."""
    power = exponential(x * _number(2), name)
    return _number(1) - _number(2) * reciprocal(_number(1) + power, name)


def error_function(x: Expression, name: Name) -> Expression:
    """erf(x), absolute error below 5e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    x = _once(name, x)
    size = _once(name, tirx.min(tirx.max(x, _number(0) - x), _number(10)))
    t = reciprocal(_number(1) + _number(0.3275911) * size, name)
    series = _number(0)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + _number(factor)) * t
    result = _once(name, _number(1) - series * exponential(_number(0) - size * size, name))
    return tirx.Select(x < _number(0), _number(0) - result, result)


#: exp(r) for |r| <= ln 2 / 2, the highest power first.
_EXPONENTIAL: Final = (
    0.0013836829289358382,
    0.008374824696136767,
    0.04166822632481418,
    0.16666420064637684,
    0.49999992074404065,
    1.000000036346317,
    1.0000000005546563,
)

#: What is replaced, by TIR's names.
FUNCTIONS: Final[dict[str, Function]] = {
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
    return tirx.Let(x, call.args[0], write(x, None))


def _once(name: Name, value: Expression) -> Expression:
    return value if name is None else name(value)


def _number(value: float) -> Expression:
    return tirx.const(value, "float32")


def _bits(dtype: str, x: Expression) -> Expression:
    """The bits of an expression as another type."""
    return tirx.reinterpret(_like(dtype, x), x)


def _like(dtype: str, x: Expression) -> str:
    """An element type with the lanes of an expression."""
    _, _, lanes = str(x.ty.dtype).partition("x")
    return f"{dtype}x{lanes}" if lanes else dtype
