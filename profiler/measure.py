"""The measuring policy: rounds in shuffled order, a canary in every block, nothing lost.

A visit is one fresh process on the device; its median is one sample. Repetitions inside a visit
share pages, caches and luck, so they do not count as independent: rounds do.
"""

from __future__ import annotations

from collections.abc import Sequence

from devices.errors import RunnerLostError
from profiler.build import Progress, unheard
from profiler.pipeline import MAX_REPEATS, Pipeline, SweepLostError
from profiler.quality import quality_flags
from profiler.sweep import (
    NETWORK_PLAN,
    OPERATOR_PLAN,
    WHOLE_PLAN,
    Item,
    Sweep,
    cool_down,
    time_canary,
    time_once,
    watch_canary,
)

__all__ = [
    "MAX_REPEATS",
    "NETWORK_PLAN",
    "OPERATOR_PLAN",
    "WHOLE_PLAN",
    "Item",
    "Sweep",
    "SweepLostError",
    "measure",
    "quality_flags",
    "time_canary",
    "time_once",
    "watch_canary",
]


def measure(items: Sequence[Item], sweep: Sweep, progress: Progress = unheard) -> None:
    """Visit every item once a round, skipping what the store already has.

    Every visit goes to the store, failures and doubtful ones too; an item that failed is not
    visited again. Work is written to the store several times a second. When the board is too hot,
    or slows itself down, the sweep waits for it, within a bound.

    Raises:
        SweepLostError: the runner is gone; what was measured is kept, run again to go on.
        StoreError: the store cannot be written to.
    """
    pipeline = Pipeline(items, sweep, progress)
    try:
        pipeline.restart()
        while pipeline.requests:
            for outcome in sweep.runner.time_many(pipeline.requests):
                pipeline.take(outcome)
                pipeline.plan_ahead()
            if pipeline.is_waiting_to_cool and pipeline.has_work:
                cool_down(sweep)
            pipeline.restart()
    except RunnerLostError as error:
        raise pipeline.abandon(error) from error
