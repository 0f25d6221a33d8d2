"""What was lost while a command held a board, and who is to blame."""

from __future__ import annotations

from dataclasses import dataclass

from devices.errors import StaleLeaseError
from profiler.kernel_histories import KernelName
from profiler.pipeline import SweepLostError
from profiler.store import StaleGenerationError, Visit


@dataclass(slots=True)
class Losses:
    """What was lost so far in one call of `hold_session`.

    Attributes:
        boot_id: Of the session that was lost; None before the first.
        in_flight: What was under way when it was lost.
        last: The error that told.
        n_in_a_row: Losses since a visit was kept.
        n_alone: Losses in a row with the same visit alone in flight and nothing kept between them.
    """

    boot_id: str | None = None
    in_flight: tuple[Visit, ...] = ()
    last: Exception | None = None
    n_in_a_row: int = 0
    n_alone: int = 0

    def note(self, error: Exception, boot_id: str | None, *, was_kept: bool) -> None:
        """Take in a loss; of a session that did not begin no boot is known."""
        before = self.suspects
        self.in_flight = error.in_flight if isinstance(error, SweepLostError) else ()
        is_same = before == self.suspects and not was_kept
        self.n_alone = 0 if len(self.in_flight) != 1 else self.n_alone + 1 if is_same else 1
        self.boot_id = boot_id or self.boot_id
        self.last = error
        self.n_in_a_row = 1 if was_kept else self.n_in_a_row + 1

    @property
    def suspects(self) -> frozenset[KernelName]:
        """What was under way when the runner was last lost."""
        return frozenset(_name(visit) for visit in self.in_flight)


def was_taken_over(error: Exception | None) -> bool:
    """Whether a session ended because somebody else has the board; a sweep says so by its cause."""
    if isinstance(error, SweepLostError):
        return isinstance(error.__cause__, StaleLeaseError)
    return isinstance(error, StaleLeaseError | StaleGenerationError)


def _name(visit: Visit) -> KernelName:
    return (visit.subject, visit.schedule, visit.kernel)
