"""One operator with one schedule, compiled by TVM to an object file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tvm

from profiler.elf import CANONICAL_NAME, align_code
from profiler.operator import Operator
from profiler.schedules.apply import scheduled
from profiler.schedules.schedule import Schedule
from profiler.target import Target

CODE_ALIGNMENT_BYTES = 64


def compile_kernel(operator: Operator, schedule: Schedule, target: Target) -> bytes:
    """Compile a kernel under the canonical name; returns its object file."""
    function = scheduled(operator, schedule, target).with_attr("global_symbol", CANONICAL_NAME)
    built = tvm.compile(tvm.IRModule({CANONICAL_NAME: function}), target=tvm_target(target))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        built.mod.write_to_file(str(path), "o")
        return align_code(path.read_bytes(), CODE_ALIGNMENT_BYTES)


def tvm_target(target: Target) -> tvm.target.Target:
    """Our target in TVM's words."""
    description: dict[str, object] = {
        "kind": "llvm",
        "mtriple": target.triple,
        "mcpu": target.cpu,
        "num-cores": target.threads,
    }
    if target.features:
        description["mattr"] = list(target.features)
    if target.triple.startswith("armv7"):
        description["mfloat-abi"] = "hard"
    if target.triple.startswith("riscv64"):
        description["mabi"] = "lp64d"
    return tvm.target.Target(description)
