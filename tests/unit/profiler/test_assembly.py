"""What the loop of a product is compiled to: fused multiply-adds of registers, nothing spilled."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import tvm

from profiler.compile import tvm_target
from profiler.kernels.write import write_kernel
from profiler.operator import Operator
from profiler.schedules.schedule import ROW_TASKS, Schedule
from profiler.schedules.space import candidates, default_schedule
from profiler.schedules.threads import forms

from .assembly import Loop, innermost_loops
from .processors import TARGETS


@dataclass(frozen=True)
class Instructions:
    """What a processor's instructions are called.

    Attributes:
        fused: A multiply-add of float32 in all lanes.
        arithmetic: Any product or sum of floating-point numbers.
        least_sums: Of the best tile, so that the processor's registers are used.
    """

    fused: str
    arithmetic: str
    least_sums: int


X86 = r"vfmadd\d+ps\s", r"v?(fn?m(add|sub)\d+|mul|add|sub)[sp]s\s"
INSTRUCTIONS = {
    "x86-64-v3": Instructions(*X86, 12),
    "x86-64-v4": Instructions(*X86, 24),
    "aarch64": Instructions(r"fmla\s+v\d+\.4s,", r"f(n?m(add|sub|ul|l[as])|add|sub)\s", 24),
    "armv7": Instructions(r"vfma\.f32\s+q", r"v(n?fm[as]|n?ml[as]|n?mul|add|sub)\.f", 9),
    "riscv64 with vectors": Instructions(
        r"vfm(acc|add)\.v[vf]\s", r"v?f(n?m(acc|sac|add|sub)|mul|r?sub|add)\.", 24
    ),
    "riscv64": Instructions(r"fmadd\.s\s", r"f(n?m(add|sub)|mul|sub|add)\.", 24),
}
#: 196 rows and long sums, 49 rows and longer ones in many panels, many rows and short sums.
OPERATORS = (
    Operator("conv2d", (1, 14, 14, 192), 64, epilogue=("bias", "relu")),
    Operator("conv2d", (1, 7, 7, 960), 160, epilogue=("bias",)),
    Operator("conv2d", (1, 56, 56, 24), 144, epilogue=("bias", "relu6")),
)


@functools.cache
def products(name: str, operator: Operator, schedule: Schedule) -> list[Loop]:
    """The loops of a kernel that multiply, compiled as kernels are."""
    target = TARGETS[name]
    kernel = write_kernel(operator, schedule, target).with_attr("global_symbol", "kernel")
    built = tvm.compile(tvm.IRModule({"kernel": kernel}), target=tvm_target(target))
    ending = "_compute_" if schedule.n_tasks == 1 else "parallel_lambda"
    loops = innermost_loops(built.mod.inspect_source("asm"), ending)
    return [loop for loop in loops if loop.those(INSTRUCTIONS[name].arithmetic)]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda op: op.key)
@pytest.mark.parametrize("name", TARGETS)
def test_the_best_tile_is_multiplied_in_registers_alone(name: str, operator: Operator) -> None:
    called = INSTRUCTIONS[name]
    schedule = default_schedule(operator, TARGETS[name])
    n_sums = schedule["rows"] * schedule["vectors"]
    assert n_sums >= called.least_sums
    loops = products(name, operator, schedule)
    whole = [loop for loop in loops if len(loop.sums(called.fused)) == n_sums]
    assert whole
    for loop in whole:
        assert len(loop.those(called.fused)) >= n_sums
        assert loop.those(called.arithmetic) == loop.those(called.fused)
        assert loop.on_stack() == []


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda op: op.key)
@pytest.mark.parametrize("name", TARGETS)
def test_tasks_that_share_rows_multiply_in_registers_alone(name: str, operator: Operator) -> None:
    called = INSTRUCTIONS[name]
    one_thread = default_schedule(operator, TARGETS[name])
    (schedule,) = (s for s in forms(operator, one_thread, 2) if ROW_TASKS in dict(s.parameters))
    n_sums = schedule["rows"] * schedule["vectors"]
    loops = products(name, operator, schedule)
    assert n_sums in {len(loop.sums(called.fused)) for loop in loops}
    for loop in loops:
        assert loop.those(called.arithmetic) == loop.those(called.fused)
        assert loop.on_stack() == []


#: Not x86-64-v3, where LLVM unrolls a smaller tile at the end and spills a factor, and not RISC-V
#: without vectors, where it spills a sum of two of the other candidates.
NEVER_SPILLED = ("x86-64-v4", "aarch64", "armv7", "riscv64 with vectors")


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda op: op.key)
@pytest.mark.parametrize("name", NEVER_SPILLED)
def test_no_tile_of_any_candidate_is_spilled(name: str, operator: Operator) -> None:
    called = INSTRUCTIONS[name]
    for schedule in candidates(operator, TARGETS[name]):
        loops = products(name, operator, schedule)
        assert loops
        for loop in loops:
            assert loop.those(called.arithmetic) == loop.those(called.fused), schedule.text
            assert loop.on_stack() == [], schedule.text


#: Windows that mix channels, with a border, and windows that do not, whose taps are unrolled.
WINDOWS = (
    Operator("conv2d", (1, 14, 14, 32), 40, (3, 3), (2, 2), (1, 1, 1, 1), epilogue=("bias",)),
    Operator("depthwise_conv2d", (1, 14, 14, 64), 64, (3, 3), padding=(1, 1, 1, 1)),
)


@pytest.mark.parametrize("operator", WINDOWS, ids=lambda op: op.key)
@pytest.mark.parametrize("name", TARGETS)
def test_all_products_of_windows_are_fused_with_their_sums(name: str, operator: Operator) -> None:
    called = INSTRUCTIONS[name]
    loops = products(name, operator, default_schedule(operator, TARGETS[name]))
    assert loops
    for loop in loops:
        assert loop.those(called.arithmetic) == loop.those(called.fused)


FUNCTION = """
kernel_compute_:
\t{before}
.LBB0_1:
\t{outer}
.LBB0_2:
.Ltmp7:
\t.loc\t1 0
\t{inner}
\t{back}.LBB0_2
\t{back}.LBB0_1
\tret
.Lfunc_end0:
other:
.LBB1_1:
\t{back}.LBB1_1
.Lfunc_end1:
"""


def only_loop(*inner: str, before: str = "nop", outer: str = "nop", back: str = "b.ne\t") -> Loop:
    text = FUNCTION.format(before=before, outer=outer, inner="\n\t".join(inner), back=back)
    (loop,) = innermost_loops(text, "_compute_")
    return loop


@pytest.mark.parametrize("back", ["b.ne\t", "cbnz\tx3, ", "bne\ta0, a1, ", "jne\t", "bnez\ta4, "])
def test_a_loop_is_what_lies_between_a_label_and_the_branch_back(back: str) -> None:
    loop = only_loop("add\tx0, x0, #4", "beq\t.LBB0_9", outer="sub\tx1, x1, #1", back=back)
    assert loop.lines == ("add\tx0, x0, #4", "beq\t.LBB0_9")


@pytest.mark.parametrize(
    "spilled",
    [
        "str\tq0, [sp, #16]",
        "vmovups\t%ymm15, (%rsp)",
        "movq\t16(%rsp), %rax",
        "add\tr8, sp, #80",
        "fsw\tfa4, 108(sp)",
    ],
)
def test_a_spill_is_found(spilled: str) -> None:
    assert only_loop("fmla\tv0.4s, v1.4s, v2.4s", spilled).on_stack() == [spilled]


@pytest.mark.parametrize(
    ("before", "spilled"),
    [
        ("mov\tx29, sp", "ldr\tq0, [x29, #-16]"),
        ("add\tx29, sp, #16", "ldr\tq0, [x29, #-16]"),
        ("mov\tr11, sp", "vldr\td0, [r11, #-16]"),
        ("addi\ts0, sp, 64", "flw\tfa0, -16(s0)"),
        ("movq\t%rsp, %rbp", "vmovups\t-32(%rbp), %ymm0"),
    ],
)
def test_a_spill_beside_the_frame_is_found_where_there_is_a_frame(
    before: str, spilled: str
) -> None:
    assert only_loop(spilled, before=before).on_stack() == [spilled]
    assert only_loop(spilled).on_stack() == []


def test_what_is_read_elsewhere_is_no_spill() -> None:
    inner = "ldr\ts12, [x0, #768]", "vbroadcastss\t(%r12,%rdx), %ymm0", "flw\tfa5, 0(s1)"
    assert only_loop(*inner, before="str\tq0, [sp]", outer="ldr\tq0, [sp]").on_stack() == []


def test_sums_are_the_registers_that_are_added_to_each_once() -> None:
    arm = only_loop(
        "fmla\tv0.4s, v9.4s, v8.s[0]", "fmla\tv1.4s, v9.4s, v8.s[0]", "fmla\tv0.4s, v7.4s, v8.s[1]"
    )
    assert arm.sums(INSTRUCTIONS["aarch64"].fused) == {"v0.4s", "v1.4s"}
    x86 = only_loop("vfmadd231ps\t(%rax){1to16}, %zmm1, %zmm2", "vfmadd213ss\t%xmm1, %xmm2, %xmm3")
    assert x86.sums(INSTRUCTIONS["x86-64-v4"].fused) == {"%zmm2"}
    assert len(x86.those(INSTRUCTIONS["x86-64-v4"].arithmetic)) == 2
