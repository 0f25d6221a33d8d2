"""The canary: a frozen program that is timed beside everything else. When it moves, the board did.

It has a call that lives from arithmetic and one that streams weights from beyond the second-level
cache, because neighbours on a shared machine disturb the one, the other, or both. The two take
about as long: networks are mostly arithmetic, and a canary of mostly memory moved half as much as
they did.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from devices.device import TimingPlan
from profiler.network import Call, Network
from profiler.operator import Operator

#: Twelve blocks of at least a millisecond after 3 ms of warm-up.
CANARY_PLAN: Final = TimingPlan(
    warmup_ns=3_000_000,
    min_block_ns=1_000_000,
    n_blocks=12,
    with_timestamps=False,
    timeout_ms=20_000,
)
#: A canary this much above or below its usual latency may mark the visits around it.
TOLERANCE: Final = 0.05
N_REMEMBERED: Final = 100
#: A device without a memory is asked so often before it is trusted.
N_FIRST: Final = 8
_MAD_TO_SD: Final = 1.4826  # of a normal distribution; Rousseeuw & Croux 1993

_CONV: Final = Operator("conv2d", (1, 40, 40, 80), 80, epilogue=("bias", "relu"))
_POOL: Final = Operator("global_avg_pool2d", (1, 40, 40, 80), 80)
_WIDEN: Final = Operator("dense", (1, 1, 1, 80), 512, epilogue=("bias", "relu"))
_DENSE: Final = Operator("dense", (1, 1, 1, 512), 1024, epilogue=("bias",))

#: Two megabytes of weights in the last call.
CANARY: Final = Network(
    name="canary:2",
    inputs=(("input", _CONV.input_shape),),
    calls=(
        Call(_CONV, ("input",), "conv", ("conv.weight", "conv.bias")),
        Call(_POOL, ("conv",), "pool"),
        Call(_WIDEN, ("pool",), "widen", ("widen.weight", "widen.bias")),
        Call(_DENSE, ("widen",), "dense", ("dense.weight", "dense.bias")),
    ),
    outputs=("dense",),
)


class CanaryWatch:
    """What the canary usually takes on one device, in microseconds.

    It has moved when it leaves its recent median by more than `TOLERANCE` and by more than three of
    its own usual deviations: on a machine that is never quiet, every visit counts, because leaving
    out those beside an unusual canary costs more samples than it gains.
    """

    def __init__(self, remembered_us: tuple[float, ...]) -> None:
        self._recent_us = deque(remembered_us, maxlen=N_REMEMBERED)

    def has_moved(self, latency_us: float | None) -> bool:
        """Take in a canary's latency (None when it failed) and say whether it is unusual."""
        if latency_us is None:
            return True
        self._recent_us.append(latency_us)
        usual_us, deviation_us = self._usual()
        return abs(latency_us - usual_us) > max(TOLERANCE * usual_us, 3 * deviation_us)

    @property
    def n_known(self) -> int:
        """How many latencies it remembers."""
        return len(self._recent_us)

    @property
    def relative_deviation(self) -> float:
        """Standard deviation of the recent canaries over their median; 0 while there are none."""
        if not self._recent_us:
            return 0.0
        usual_us, deviation_us = self._usual()
        return deviation_us / usual_us

    def _usual(self) -> tuple[float, float]:
        """Median and robust standard deviation, in microseconds."""
        recent_us = np.array(self._recent_us)
        usual_us = float(np.median(recent_us))
        return usual_us, _MAD_TO_SD * float(np.median(np.abs(recent_us - usual_us)))
