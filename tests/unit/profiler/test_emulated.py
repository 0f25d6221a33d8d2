"""Kernels for other processors, and the runner with them, compute the right numbers under qemu."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from devices.local import start_runner
from devices.session import RunnerSession
from profiler.artifacts import ArtifactStore
from profiler.build import Kernel, build_kernels, object_files
from profiler.link import link_executable
from profiler.operator import Operator
from profiler.schedules.space import candidates
from profiler.schedules.threads import forms
from tests.unit.devices.workloads import some_cores
from tests.unit.searchspace.network_interpreter import run_operator

from .examples import Array, inputs_of, relative_error, weights_of
from .processors import TARGETS
from .test_forms import beside, gelu, kept, layer_norm, scores, softmax
from .test_forms import run as run_loops
from .test_schedules import run

#: The emulator of each, and the processors that it plays: no other instructions are allowed.
EMULATORS = {
    "aarch64": ("qemu-aarch64-static", ("cortex-a72",)),
    "armv7": ("qemu-arm-static", ("cortex-a7",)),
    "riscv64 with vectors": (
        "qemu-riscv64-static",
        ("rv64,v=true,vlen=128", "rv64,v=true,vlen=256"),
    ),
    "riscv64": ("qemu-riscv64-static", ("rv64,v=false",)),
}
WINDOW = {"kernel": (3, 3), "padding": (1, 1, 1, 1)}
#: By rule, with rows and channels that no tile divides.
OPERATORS = {
    "gemm": Operator("conv2d", (1, 7, 7, 17), 45, epilogue=("bias", "add", "hard_swish")),
    "conv": Operator(
        "conv2d", (1, 7, 9, 5), 22, stride=(2, 1), epilogue=("bias", "relu"), **WINDOW
    ),
    "winograd": Operator("conv2d", (1, 9, 7, 17), 22, epilogue=("bias", "gelu"), **WINDOW),
    "window": Operator("depthwise_conv2d", (1, 9, 9, 22), 22, epilogue=("bias", "swish"), **WINDOW),
    "separable": Operator(
        "separable_conv2d", (1, 9, 9, 22), 45, epilogue=("bias", "add"),
        inner_epilogue=("bias", "swish"), **WINDOW,
    ),
    "mean": Operator("global_avg_pool2d", (2, 5, 5, 22), 22),
    "once": Operator("add", (1, 5, 5, 22), 22, epilogue=("sigmoid",)),
}  # fmt: skip
#: Of others, by rule; every list of candidates ends with those of rule `generic`.
LOOPS = {
    "matmul": (scores(13, 7, 22), beside(9, 5, 47)),
    "rowwise": (softmax(3, 22), layer_norm(3, 31), gelu(2, 22)),
}


#: They need emulators, and take long.
pytestmark = pytest.mark.lab


@dataclass(frozen=True)
class Case:
    """An operator with arrays to try it on."""

    inputs: list[Array]
    weights: list[Array]
    expected: Array


def cases(artifacts: ArtifactStore) -> dict[Operator, Case]:
    """All operators; the loops of others are kept where a build finds them."""
    rng = np.random.default_rng(3)
    found = {}
    for operator in OPERATORS.values():
        inputs, weights = inputs_of(operator, rng), weights_of(operator, rng)
        found[operator] = Case(inputs, weights, run_operator(operator, inputs, weights))
    for loops in itertools.chain(*LOOPS.values()):
        inputs = [rng.normal(size=shape).astype(np.float32) for shape in loops.shapes]
        found[kept(loops, artifacts)] = Case(inputs, [], loops.reference(*inputs))
    return found


def error_of(runner: RunnerSession, kernel: Kernel, case: Case) -> float:
    """What a kernel is off by, relative to the largest number."""
    if kernel.operator.body is not None:
        made = run_loops(runner, kernel, case.inputs, None)
    else:
        made = run(runner, kernel, case.inputs, case.weights)
    return relative_error(made, case.expected)


@pytest.mark.parametrize("name", EMULATORS)
def test_candidates_compute_what_torch_and_numpy_compute(
    name: str, build_cache: Path, tmp_path: Path
) -> None:
    emulator, processors = EMULATORS[name]
    if shutil.which(emulator) is None:
        pytest.skip(f"{emulator} is not installed (Debian: package qemu-user-static)")
    target, artifacts = TARGETS[name], ArtifactStore(tmp_path / "artifacts")
    tried = cases(artifacts)
    listed = [(operator, s) for operator in tried for s in candidates(operator, target)]
    first = {(op, schedule.rule): schedule for op, schedule in reversed(listed)}
    # Emulation is slow: every second candidate beside the first of each list, in lists whose
    # lengths differ from target to target.
    one_thread = [*((op, s) for (op, _), s in first.items()), *listed[::2]]
    two_threads = [(op, form) for (op, _), s in first.items() for form in forms(op, s, 2)]
    requests = list(dict.fromkeys(one_thread + two_threads))
    kernels = [
        each for each in build_kernels(requests, target, artifacts) if isinstance(each, Kernel)
    ]
    assert len(kernels) == len(requests)
    assert {kernel.schedule.rule for kernel in kernels} == {*OPERATORS, *LOOPS, "generic"}
    files = object_files(kernels, artifacts, tmp_path / "objects")
    executable = link_executable(files, target, build_cache)
    for processor in processors:
        command = [emulator, "-cpu", processor, str(executable)]
        with start_runner(command, some_cores(2)) as runner:
            errors = {
                f"{kernel.operator.key} {kernel.schedule.text}": error_of(
                    runner, kernel, tried[kernel.operator]
                )
                for kernel in kernels
            }
        assert {text: error for text, error in errors.items() if not error < 1e-5} == {}
