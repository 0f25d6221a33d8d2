"""What one core can do at the most: multiply-adds from registers, and reading a working set."""

from __future__ import annotations

from typing import Any, Final

from turns import Contender, contender
from tvm import tirx

from profiler.compile import compile_function, tvm_target
from profiler.kernels.tir import RegisterFile, block, function, load, loop, store
from profiler.target import Target

#: Steps of each chain in one call, some 15 us of work.
N_STEPS: Final = 4096
_READ_SUMS: Final = 8


def peak(target: Target) -> tuple[Contender, int]:
    """A kernel that multiplies and adds in registers, and its floating-point operations."""
    lanes, n_chains = target.lanes, _n_chains(target)
    code = compile_function(chains(n_chains, lanes, N_STEPS), tvm_target(target))
    found = contender(code, [(n_chains * lanes,), (lanes,), (lanes,)], [], (n_chains * lanes,))
    return found, 2 * n_chains * lanes * N_STEPS


def read(target: Target, n_bytes: int) -> tuple[Contender, int]:
    """A kernel that adds up a buffer of about so many bytes, and how many they are."""
    step_floats = _READ_SUMS * target.lanes
    n_steps = max(2, round(n_bytes / 4 / step_floats))
    code = compile_function(totals(n_steps, target.lanes), tvm_target(target))
    found = contender(code, [], [(n_steps * step_floats,)], (step_floats,))
    return found, 4 * n_steps * step_floats


def chains(n_chains: int, lanes: int, n_steps: int) -> Any:
    """Each of some vectors becomes itself times a vector plus another, again and again.

    No chain waits for another, and more are under way than it takes to hide the latency of a
    multiply-add: 4 cycles by 2 units on most processors.
    """
    start = tirx.decl_buffer((n_chains * lanes,), "float32", name="start")
    factor = tirx.decl_buffer((lanes,), "float32", name="factor")
    addend = tirx.decl_buffer((lanes,), "float32", name="addend")
    out = tirx.decl_buffer((n_chains * lanes,), "float32", name="out")
    registers = RegisterFile()
    sums = registers.area("sums", n_chains, lanes)
    operands = registers.area("operands", 2, lanes)
    each = range(n_chains)
    return function(
        (start, factor, addend, out),
        block(
            registers.declare(),
            operands.put(0, load(factor, (0,), lanes)),
            operands.put(1, load(addend, (0,), lanes)),
            *(sums.put(i, load(start, (i * lanes,), lanes)) for i in each),
            loop(
                n_steps,
                lambda _: block(*(sums.put(i, sums[i] * operands[0] + operands[1]) for i in each)),
            ),
            *(store(out, (i * lanes,), sums[i], lanes) for i in each),
        ),
    )


def totals(n_steps: int, lanes: int) -> Any:
    """Sums over a buffer, as many as it takes to hide the latency of an addition."""
    step_floats = _READ_SUMS * lanes
    x = tirx.decl_buffer((n_steps * step_floats,), "float32", name="x")
    out = tirx.decl_buffer((step_floats,), "float32", name="out")
    registers = RegisterFile()
    sums = registers.area("sums", _READ_SUMS, lanes)
    each = range(_READ_SUMS)
    return function(
        (x, out),
        block(
            registers.declare(),
            *(sums.put(i, load(x, (i * lanes,), lanes)) for i in each),
            loop(
                n_steps - 1,
                lambda step: block(
                    *(
                        sums.put(i, sums[i] + load(x, (step * step_floats + i * lanes,), lanes))
                        for i in each
                    )
                ),
                1,
            ),
            *(store(out, (i * lanes,), sums[i], lanes) for i in each),
        ),
    )


def _n_chains(target: Target) -> int:
    """As many as fit the registers beside the two operands."""
    return target.n_vector_registers - 4
