"""The name of one way to lay out an operator's loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Parameters of schedules for several threads: tasks that share rows, or output channels.
ROW_TASKS: Final = "row_tasks"
CHANNEL_TASKS: Final = "channel_tasks"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule and its numbers; `text` names it in stores and reports.

    Attributes:
        rule: Name of the function in this package that lays out the loops.
        parameters: (name, value) pairs, such as (("rows", 4), ("vectors", 2)).
    """

    rule: str
    parameters: tuple[tuple[str, int], ...] = ()

    @property
    def text(self) -> str:
        """Canonical text, such as `gemm rows=4 vectors=2`."""
        return " ".join([self.rule, *(f"{name}={value}" for name, value in self.parameters)])

    @property
    def n_tasks(self) -> int:
        """Tasks that the kernel starts; with 1 it starts none."""
        options = dict(self.parameters)
        return max(options.get(ROW_TASKS, 1), options.get(CHANNEL_TASKS, 1))

    def __getitem__(self, name: str) -> int:
        return dict(self.parameters)[name]


def parse_schedule(text: str) -> Schedule:
    """Read a schedule back from its canonical text.

    Raises:
        ValueError: the text is not a rule followed by name=value pairs.
    """
    rule, *pairs = text.split(" ")
    try:
        parameters = tuple((name, int(value)) for name, value in (p.split("=") for p in pairs))
    except ValueError:
        raise ValueError(f"not a schedule: {text!r}") from None
    return Schedule(rule, parameters)
