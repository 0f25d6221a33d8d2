"""How long a board that is lost, or that somebody else has, is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a board.

    Attributes:
        reconnect_s: For a board that was lost, until it is given up.
        lease_s: For somebody else who measures on it. A runner of ours that lost its link holds
            the lease for some seconds, too.
        first_pause_s, longest_pause_s: Between two attempts; each pause is twice the last.
        n_losses: Losses in a row, without a visit kept between them, until it is given up.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
    """

    reconnect_s: float = 300.0
    lease_s: float = 60.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0
    n_losses: int = 6
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def pause_s(self, n_failures: int) -> float:
        """How long to wait after so many failures in a row; none before the first."""
        if n_failures < 1:
            return 0.0
        doubled: float = self.first_pause_s * 2 ** min(n_failures - 1, 30)
        return min(doubled, self.longest_pause_s)


PATIENCE: Final = Patience()
