"""What a board was like when a sweep started, and when it is too hot to be measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from devices.device import Timing
from profiler.quality import is_throttled

#: A board may become this much hotter than it was when the sweep started.
MARGIN_C: Final = 10.0
#: Below this nothing waits: processors slow themselves down at 80 C and above.
HARMLESS_C: Final = 65.0
#: A board is given so long to cool down; what is measured after it is flagged `hot`.
DEADLINE_S: Final = 120.0
#: A canary asks the board how it is this often meanwhile.
PAUSE_S: Final = 2.0


@dataclass(slots=True)
class Baseline:
    """Where a sweep started.

    Attributes:
        start_c: The temperature then; None until the board told.
        governor: The clock governor then; None until the board told.
        has_given_up: Whether waiting did not help: no more of it until the board was cool once.
    """

    start_c: float | None = None
    governor: str | None = None
    has_given_up: bool = False

    @property
    def limit_c(self) -> float | None:
        """The board is hot above this."""
        return None if self.start_c is None else max(self.start_c + MARGIN_C, HARMLESS_C)

    def note(self, timing: Timing) -> None:
        """Take the first timing that tells for the start."""
        if self.start_c is None:
            self.start_c = timing.before.temperature_c
        if self.governor is None:
            self.governor = timing.before.governor

    def is_too_hot(self, timing: Timing) -> bool:
        """Whether the board is hot after a timing, or slowed itself down."""
        now_c = timing.after.temperature_c
        is_hot = now_c is not None and self.limit_c is not None and now_c > self.limit_c
        return is_hot or is_throttled(timing)

    def asks_to_wait(self, timing: Timing) -> bool:
        """Whether to let the board cool down after a timing, before the next."""
        if self.is_too_hot(timing):
            return not self.has_given_up
        self.has_given_up = False
        return False

    def describe(self, timing: Timing) -> str:
        """What is waited for, for a person to read."""
        now_c = timing.after.temperature_c
        if now_c is None or self.limit_c is None or now_c <= self.limit_c:
            return "cooling down: the board slows itself down"
        return f"cooling down, {now_c:.0f} of {self.limit_c:.0f} C"
