"""Moments of rows in the order in which they were written, whatever the host's clock did meanwhile.

Rows carry the host's time of day, which is set back now and then, by hand or by a time server. Two
rows that were written hours apart must not look like neighbours then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

#: A step back by more than this is a clock that was set; less is two writers out of step.
STEP_BACK_S: Final = 4.0
#: What was written after a clock was set back begins this long after what was written before.
GAP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Moments that never go back by more than `STEP_BACK_S`, from rows that are written often.

    Attributes:
        ids: Of those rows, ascending, shape (n_rows,).
        moments_s: When each was written, shape (n_rows,).
        offsets_s: Each moment less the row's own time stamp, shape (n_rows,).
    """

    ids: NDArray[np.int64]
    moments_s: NDArray[np.float64]
    offsets_s: NDArray[np.float64]

    @classmethod
    def from_stamps(cls, ids: Sequence[int], stamps_s: Sequence[float]) -> Self:
        """Take rows in ascending order of their ids; stamps are POSIX times."""
        stamps = np.asarray(stamps_s, dtype=np.float64)
        steps = np.diff(stamps, prepend=stamps[:1])
        shifts = np.where(steps < -STEP_BACK_S, GAP_S - steps, 0.0)
        offsets = np.cumsum(shifts)
        return cls(np.asarray(ids, dtype=np.int64), stamps + offsets, offsets)

    def moment_s(self, row_id: int, stamp_s: float) -> float:
        """When a row was written that lies anywhere among the others."""
        index = int(np.searchsorted(self.ids, row_id, side="right")) - 1
        if index < 0:
            return stamp_s
        for offset_s in self.offsets_s[index : index + 2]:
            if stamp_s + offset_s >= self.moments_s[index] - STEP_BACK_S:
                return float(stamp_s + offset_s)
        return float(self.moments_s[index] + GAP_S)


#: Where no rows tell: every row was written when its stamp says.
AS_STAMPED: Final = Timeline.from_stamps((), ())
