"""Whether several ways to compute a network agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.model_io import Array


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """How far several ways to compute a network agree on the same inputs.

    Attributes:
        max_error: Largest difference from the reference over the reference's largest magnitude on
            any input, over all inputs and all ways.
        min_difference: Smallest relative difference between the reference's outputs of two
            inputs: near 0 means that the check could not have failed.
        n_inputs: Inputs that were tried.
    """

    max_error: float
    min_difference: float
    n_inputs: int

    @property
    def passes(self) -> bool:
        """All ways agree to 1e-3, on inputs whose outputs differ by more than twice that.

        A way that mixed two inputs up would be found out.
        """
        return self.max_error <= 1e-3 and self.min_difference > 2e-3


def compare_outputs(reference: Sequence[Array], others: Sequence[Sequence[Array]]) -> OutputCheck:
    """Compare outputs, one array an input, of several ways with those of a reference.

    Raises:
        ValueError: fewer than two inputs, or a way with another number of outputs.
    """
    counts = [len(reference), *map(len, others)]
    if not others or len(reference) < 2 or len(set(counts)) > 1:
        raise ValueError(f"two inputs or more are needed from every way, got {counts}")
    # On an input that a detector finds nothing in, all that is left is the noise of rounding.
    scale = max(float(np.max(np.abs(expected))) for expected in reference)
    errors = [
        _relative(array, expected, scale)
        for other in others
        for array, expected in zip(other, reference, strict=True)
    ]
    differences = [
        _relative(a, b, float(np.max(np.abs(b))))
        for i, a in enumerate(reference)
        for b in reference[i + 1 :]
    ]
    return OutputCheck(max(errors), min(differences), len(reference))


def _relative(array: Array, expected: Array, scale: float) -> float:
    with np.errstate(invalid="ignore"):  # infinities
        difference = float(np.max(np.abs(array - expected)))
    # A NaN must fail every comparison that follows.
    return difference / scale if scale > 0 and np.isfinite(difference) else float("inf")
