"""Whether the memory that a network needs is there: asked before anything is built or run."""

from __future__ import annotations

from dataclasses import replace

from latloop.workbench import Workbench
from profiler.network import Network
from profiler.plan import ArenaPlan, PlanMode, plan_arena
from profiler.runtime import Model
from searchspace.constraint import MemoryLimit, format_memory


class OverMemoryLimitError(RuntimeError):
    """A network's activations take more than its user allows: allow more, or take another one."""


class TooLargeForBoardError(RuntimeError):
    """A network's activations and weights exceed the board's memory: take a smaller network."""


def with_plan(workbench: Workbench, model: Model) -> Model:
    """A model with a plan of its memory; raises as `plan_memory` does where it has none yet."""
    if model.plan is not None:
        return model
    return replace(model, plan=plan_memory(workbench, model.network))


def plan_memory(
    workbench: Workbench,
    network: Network,
    mode: PlanMode = "greedy",
    limit: MemoryLimit | None = None,
) -> ArenaPlan:
    """Plan a network's arena, and refuse one that does not fit.

    Args:
        workbench: The device, whose board must hold arena and weights together.
        network: The network.
        mode: How hard to look for a small arena.
        limit: What the arena may take; None for whatever the board has.

    Raises:
        OverMemoryLimitError: the arena is over the limit.
        TooLargeForBoardError: arena and weights are more than the board's memory.
    """
    plan = plan_arena(network, mode=mode)
    arena_bytes, weight_bytes = plan.arena_bytes, network.weight_bytes
    board_bytes = workbench.fingerprint.board.memory_bytes
    if 0 < board_bytes < arena_bytes + weight_bytes:  # 0: the board does not tell
        raise TooLargeForBoardError(
            f"{network.name} needs {format_memory(arena_bytes + weight_bytes)} "
            f"({format_memory(arena_bytes)} of activations, {format_memory(weight_bytes)} of "
            f"weights), but {workbench.device.name} has {format_memory(board_bytes)} of memory; "
            "take a smaller network, batch or input"
        )
    if limit is not None and arena_bytes > limit.limit_bytes:
        better = "" if plan.is_optimal else "; --plan optimal may find a smaller arena"
        raise OverMemoryLimitError(
            f"the activations of {network.name} take {format_memory(arena_bytes)}, over the limit "
            f"of {format_memory(limit.limit_bytes)}{better}"
        )
    return plan
