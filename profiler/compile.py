"""One operator with one schedule, compiled by TVM to an object file."""

from __future__ import annotations

import os
from typing import Final

import tvm

from profiler.elf import CANONICAL_NAME, align_code
from profiler.kernels.write import write_kernel
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.target import Target

CODE_ALIGNMENT_BYTES = 64
#: A kernel would check its arguments at every call, in half of its code. Whoever makes a workload
#: has checked them once: see `profiler.network.Network`.
_WITHOUT_CHECKS: Final = {"tirx.disable_assert": True}


def compile_kernel(
    operator: Operator, schedule: Schedule, target: Target, loops: str | None = None
) -> bytes:
    """Compile a kernel under the canonical name; returns its object file.

    Args:
        operator: What is computed.
        schedule: How its loops are laid out.
        target: What code is generated for.
        loops: The text of a generic operator's loops.
    """
    function = write_kernel(operator, schedule, target, loops)
    is_generic = loops is not None
    return compile_function(
        function,
        tvm_target(
            target,
            may_reorder=is_generic,
            may_forget_nan=is_generic and "isnan" not in str(loops),
            may_vectorize=not (is_generic and " % " in str(loops)),
        ),
    )


def compile_function(function: tvm.tirx.PrimFunc, target: tvm.target.Target) -> bytes:
    """Compile a function under the canonical name; returns its object file."""
    named = function.with_attr("global_symbol", CANONICAL_NAME)
    with tvm.transform.PassContext(config=_WITHOUT_CHECKS):
        built = tvm.compile(tvm.IRModule({CANONICAL_NAME: named}), target=target)
    # In memory: a full disk must not look like an operator that does not compile.
    with os.fdopen(os.memfd_create(CANONICAL_NAME), "rb") as file:
        built.mod.write_to_file(f"/proc/self/fd/{file.fileno()}", "o")
        file.seek(0)
        return align_code(file.read(), CODE_ALIGNMENT_BYTES)


def tvm_target(
    target: Target,
    *,
    may_reorder: bool = False,
    may_forget_nan: bool = False,
    may_vectorize: bool = True,
) -> tvm.target.Target:
    """Our target in TVM's words.

    Args:
        target: Ours.
        may_reorder: The compiler may reorder the terms of sums, so that they run in vectors.
        may_forget_nan: The same of maxima, whose result is any number where one of them is NaN.
        may_vectorize: LLVM may turn plain loops into vectors. LLVM 22 gets remainders wrong when
            it does so for AVX-512: a tile of (3, 4, 5) read far outside of its input.
    """
    description: dict[str, object] = {
        "kind": "llvm",
        "mtriple": target.triple,
        "mcpu": target.cpu,
        "num-cores": target.threads,
    }
    if may_reorder:
        description |= {"fast-math-reassoc": True, "fast-math-contract": True}
    if may_forget_nan:
        description |= {"fast-math-nnan": True, "fast-math-nsz": True}
    if not may_vectorize and target.cpu == "x86-64-v4":
        description["cl-opt"] = ["-vectorize-loops:bool=false"]
    if target.features:
        description["mattr"] = list(target.features)
    if target.triple.startswith("armv7"):
        description["mfloat-abi"] = "hard"
    if target.triple.startswith("riscv64"):
        description["mabi"] = "lp64d"
    return tvm.target.Target(description)
