"""A runner that answers from a script while a simulated clock passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from devices.board import Board, Fingerprint, Runtime
from devices.device import (
    Conditions,
    Failure,
    KernelCall,
    Tensor,
    Timing,
    TimingPlan,
    TimingRequest,
    Workload,
)
from devices.messages import RunnerDescription
from profiler.measure import Item

DEVICE = Fingerprint(
    Board("x86_64", "Some CPU", (), 2, 1 << 32, 0, 0, 0, None, ""),
    Runtime("latloop", 1, (), "6.1", "Debian 12", ""),
)
QUIET = Conditions(0.1, 1, 100, 2400.0, 40.0)
PLAN = TimingPlan(1, 1, 5, False, 100)
CRASH = Failure("crash", "signal 11")
DESCRIPTION = RunnerDescription(2, (), 20, "monotonic", 4096, 4711, "")

#: Called with a kernel's name and which visit to it this is, from 1.
Script = Callable[[str, int], Timing | Failure]


def timing(latency_us: float, **changes: object) -> Timing:
    """A quiet timing in which every repetition takes so long."""
    values: dict[str, object] = {
        "n_repeats": 1000,
        "block_ns": (round(latency_us * 1e6),) * 5,
        "call_ns": None,
        "tick_ns": 20,
        "n_preemptions": 0,
        "before": QUIET,
        "after": QUIET,
    }
    return Timing(**(values | changes))  # type: ignore[arg-type]


def steady(_: str, __: int) -> Timing:
    """Everything takes 100 us, always."""
    return timing(100)


class ScriptedRunner:
    """See `devices.device.Runner`; notes every visit and how long it has run in all."""

    def __init__(self, script: Script = steady, visit_s: float = 0.05) -> None:
        self.script = script
        self.visit_s = visit_s
        self.now_s = 0.0
        self.visited: list[str] = []
        self.plans: list[TimingPlan] = []
        self.description = DESCRIPTION
        #: For each visit that was drawn from several, how many were known beyond it.
        self.n_ahead: list[int] = []

    def time(self, workload: Workload, plan: TimingPlan) -> Timing | Failure:
        name = workload.calls[0].kernel
        self.visited.append(name)
        self.plans.append(plan)
        self.now_s += self.visit_s
        return self.script(name, self.visited.count(name))

    def time_many(self, items: Sequence[TimingRequest]) -> Iterator[Timing | Failure]:
        for position, (workload, plan) in enumerate(items):
            self.n_ahead.append(len(items) - position - 1)
            yield self.time(workload, plan)

    def sleep(self, pause_s: float) -> None:
        """Let the simulated clock pass."""
        self.now_s += pause_s

    def run(
        self,
        workload: Workload,
        inputs: Mapping[int, np.ndarray],
        outputs: tuple[int, ...],
        timeout_ms: int,
    ) -> dict[int, np.ndarray] | Failure:
        raise AssertionError(f"{workload} {inputs} {outputs} {timeout_ms}: nothing is run here")

    def close(self) -> None:
        """Nothing to stop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def n_ahead_of_items(self) -> list[int]:
        """For each visit but the canary's, how many were known beyond it."""
        pairs = zip(self.visited, self.n_ahead, strict=True)
        return [n for name, n in pairs if name != "canary"]

    @property
    def items_visited(self) -> list[str]:
        """Visits without the canary's."""
        return [name for name in self.visited if name != "canary"]


def item(name: str) -> Item:
    """An operator whose kernel has this name."""
    workload = Workload((Tensor("arena", 0, (1,)),), (KernelCall(name, (0,)),), 64, 0)
    return Item("operator", f"subject {name}", name, "gemm rows=4", (), workload, PLAN)
