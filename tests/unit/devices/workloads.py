from __future__ import annotations

import os
from itertools import cycle, islice

from devices.device import Fill, KernelCall, Tensor, TimingPlan, Workload

N = 64
BYTES = 4 * N

#: No warm-up beyond the least, one short block.
QUICK = TimingPlan(0, 0, 1, False, 10_000)


def some_cores(n_threads: int) -> tuple[int, ...]:
    """A core for each thread, one for several where this process may use fewer."""
    return tuple(islice(cycle(sorted(os.sched_getaffinity(0))), n_threads))


def chain(*kernels: str, n_arguments: int = 3) -> Workload:
    """Calls of kernels on the first tensors of a, b (weights), c."""
    tensors = (
        Tensor("arena", 0, (N,), Fill(1, 1.0)),
        Tensor("weights", 0, (N,), Fill(2, 1.0)),
        Tensor("arena", BYTES, (N,)),
    )
    arguments = {"add": (0, 1, 2)}
    arguments |= dict.fromkeys(("twice", "negate", "subnormal"), (0, 2))
    default = tuple(range(n_arguments))
    calls = tuple(KernelCall(name, arguments.get(name, default)) for name in kernels)
    return Workload(tensors, calls, 2 * BYTES, BYTES)
