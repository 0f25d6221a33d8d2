"""Functions as arithmetic: how far they are from numpy's, compiled as generic operators are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from scipy import special
from tvm import te, tirx

from profiler.compile import tvm_target
from profiler.fast_math import FUNCTIONS, with_fast_math
from profiler.target import Target

Floats = NDArray[np.float64]
N = 1 << 14
#: Function in TIR, in double precision, and the largest error that is stated.
CASES: dict[str, tuple[Callable[..., object], Callable[[Floats], Floats], float]] = {
    "tirx.erf": (tirx.erf, special.erf, 5e-7),
    "tirx.exp": (tirx.exp, np.exp, 3e-7),
    "tirx.sigmoid": (tirx.sigmoid, special.expit, 3e-7),
    "tirx.tanh": (tirx.tanh, np.tanh, 3e-7),
}


def computed(function: tvm.tirx.PrimFunc, x: NDArray[np.float32], target: Target) -> Floats:
    kernel = tvm.compile(
        tvm.IRModule({"main": function.with_attr("global_symbol", "main")}),
        target=tvm_target(target, may_reorder=True),
    )
    out = tvm.runtime.tensor(np.zeros(x.size, np.float32))
    kernel["main"](tvm.runtime.tensor(x), out)
    return out.numpy().astype(np.float64)


def of_each(write: Callable[..., object], dtype: str = "float32") -> tvm.tirx.PrimFunc:
    x = te.placeholder((N,), dtype, name="x")
    return te.create_prim_func([x, te.compute((N,), lambda i: write(x[i]), name="y")])


def test_every_function_is_tried() -> None:
    assert set(CASES) == set(FUNCTIONS)


@pytest.mark.parametrize("name", CASES)
def test_errors_are_as_stated(name: str, host_target: Target) -> None:
    write, exact, bound = CASES[name]
    x = np.concatenate([np.linspace(-12, 12, N - 4), [-1e30, -80.0, 80.0, 1e30]]).astype(np.float32)
    function = with_fast_math(of_each(write))
    assert name not in str(function)
    with np.errstate(over="ignore"):
        wanted = exact(x.astype(np.float64))
    wanted = np.minimum(wanted, np.exp(87.0))  # where ours ends
    difference = np.abs(computed(function, x, host_target) - wanted)
    assert (difference / np.maximum(np.abs(wanted), 1.0)).max() < bound


def test_functions_of_functions_compile_in_bounded_time(host_target: Target) -> None:
    depth = 9  # with none of them left to the library the compiler would run for hours

    def write(x: object) -> object:
        for _ in range(depth):
            x = tirx.sigmoid(x)
        return x

    x = np.linspace(-3, 3, N).astype(np.float32)
    wanted = x.astype(np.float64)
    for _ in range(depth):
        wanted = special.expit(wanted)
    result = computed(with_fast_math(of_each(write)), x, host_target)
    np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_other_element_types_keep_the_library() -> None:
    function = of_each(tirx.exp, "float64")
    assert str(with_fast_math(function)) == str(function)
