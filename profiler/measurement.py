"""What is learned from the device: latencies of operators and of whole networks."""

from __future__ import annotations

from dataclasses import dataclass

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule


@dataclass(frozen=True, slots=True)
class OperatorLatency:
    """What the store knows of one operator on one device.

    Attributes:
        operator: The operator.
        schedule: The schedule that was kept: the fastest of those tried.
        alone_us: Median latency of the kernel called again and again, hot.
        in_place_us: Median latency between timestamps inside whole programs, or None where no
            measured program held it.
        relative_spread: Half the range of the session medians over their median.
    """

    operator: Operator
    schedule: Schedule
    alone_us: float
    in_place_us: float | None
    relative_spread: float


@dataclass(frozen=True, slots=True)
class NetworkLatency:
    """What the store knows of one whole network on one device.

    Attributes:
        name: The network's name, such as `nas_bench_macro:22212220`.
        operators: Its operators in order of execution, with repetitions.
        latency_us: Median over the sessions' medians, without timestamps between calls.
        session_us: The median of each session.
        session_s: When each session was made, in seconds, as in `profiler.timeline`; empty where
            that is not known.
    """

    name: str
    operators: tuple[Operator, ...]
    latency_us: float
    session_us: tuple[float, ...]
    session_s: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """The space or file that the network comes from: its name up to the last colon.

        A space may itself be `module:object`.
        """
        return self.name.rpartition(":")[0] or self.name
