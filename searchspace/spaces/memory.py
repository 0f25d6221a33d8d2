"""What the activations of subnets made of slots take, many subnets at once.

Between two slots one tensor is live, beside the network's input, and its shape is fixed. So the
bytes that are live during a slot's calls depend on that slot alone, and a subnet's peak is the
highest of its slots'. The planner places these networks without a gap: their arena is that peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.plan import ALIGNMENT_BYTES
from profiler.plan_lifetimes import find_lifetimes
from profiler.plan_pack import pad_lifetimes
from searchspace.spaces.layers import Layers
from searchspace.spaces.lowering import Shape4, lower_layers


@dataclass(frozen=True, slots=True)
class SlotPeaks:
    """Bytes that are live during the worst call of each (slot, code), its neighbours apart.

    Attributes:
        inner_bytes: Where the slot's input is a tensor like others, the network's input not
            counted; shape (n_slot_codes,).
        first_bytes: Where it is the network's input, which stays; shape (n_slot_codes,).
        is_empty: Whether the code puts nothing there; shape (n_slot_codes,).
        image_bytes: The network's input, which stays.
    """

    inner_bytes: NDArray[np.int64]
    first_bytes: NDArray[np.int64]
    is_empty: NDArray[np.bool_]
    image_bytes: int

    def peak_bytes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The peak of each subnet.

        Args:
            rows: Which (slot, code) each slot holds, shape (n_subnets, n_slots).

        Returns:
            Shape (n_subnets,).
        """
        peaks = self.inner_bytes[rows] + self.image_bytes
        # The first slot that is not empty reads the network's input itself.
        subnets = np.arange(len(rows))
        first = np.argmin(self.is_empty[rows], axis=1)
        peaks[subnets, first] = self.first_bytes[rows[subnets, first]]
        highest: NDArray[np.int64] = np.maximum(peaks.max(axis=1), self.image_bytes)
        return highest


def find_slot_peaks(runs: Sequence[tuple[Layers, Shape4]], input_shape: Shape4) -> SlotPeaks:
    """Peaks of runs of layers.

    Args:
        runs: The layers that each (slot, code) stands for, with the shape that reaches them.
        input_shape: Of the network's input.
    """
    padded = -(-4 * int(np.prod(input_shape)) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return SlotPeaks(
        inner_bytes=np.array([_peak(*run, keeps_input=False) for run in runs], dtype=np.int64),
        first_bytes=np.array([_peak(*run, keeps_input=True) for run in runs], dtype=np.int64),
        is_empty=np.array([not layers for layers, _ in runs]),
        image_bytes=padded,
    )


def _peak(layers: Layers, input_shape: Shape4, *, keeps_input: bool) -> int:
    if not layers:
        return 0
    network = lower_layers("layers", input_shape, layers)
    lifetimes = find_lifetimes(network, keeps_inputs=keeps_input)
    return pad_lifetimes(lifetimes, ALIGNMENT_BYTES).least_bytes
