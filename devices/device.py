"""What every device can do: run a workload of kernels, and time it.

A workload is all that the runner knows: tensors at fixed places of two memory regions and an
ordered list of kernel calls over them. One operator alone is a workload of one call; a whole
network is a workload of many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from devices.board import Fingerprint

if TYPE_CHECKING:
    from devices.messages import RunnerDescription

#: Element types of tensors, by numpy's names, and their sizes.
DTYPE_BYTES: Final[Mapping[str, int]] = {
    "float32": 4, "float64": 8, "float16": 2, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "uint8": 1, "bool": 1,
}  # fmt: skip

Region = Literal["arena", "weights"]
#: `board_lost` is told by the host alone: the whole board went down with the workload in flight.
FailureReason = Literal[
    "crash", "timeout", "kernel_error", "out_of_memory", "bad_request", "build_error", "board_lost"
]


@dataclass(frozen=True, slots=True)
class Fill:
    """Contents of a tensor, made on the board: uniform in [-scale, scale) from a counter hash.

    `devices.fill.uniform` gives the same numbers on the host.
    """

    seed: int
    scale: float


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor at a fixed place.

    Attributes:
        region: `arena` (activations) or `weights` (constants).
        offset_bytes: Where it starts in the region; a multiple of 64.
        shape: Its extents, C order without gaps.
        fill: What it holds before the first call; None leaves zeros, or the weights file's bytes.
            float32 alone can be filled.
        dtype: Element type, one of `DTYPE_BYTES`.
    """

    region: Region
    offset_bytes: int
    shape: tuple[int, ...]
    fill: Fill | None = None
    dtype: str = "float32"

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One kernel of the executable, called on tensors by their index in the workload."""

    kernel: str
    tensors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """Kernel calls in order, over a planned arena.

    Attributes:
        tensors: Every tensor, at its place.
        calls: The kernels in order of execution.
        arena_bytes, weight_bytes: Sizes of the two regions.
        weights_file: A file on this machine that starts with the bytes of the weights region,
            or None; who talks to the runner says where it lies on the board.
    """

    tensors: tuple[Tensor, ...]
    calls: tuple[KernelCall, ...]
    arena_bytes: int
    weight_bytes: int
    weights_file: Path | None = None


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """How one visit to a workload is timed, in a fresh child process of the runner.

    Attributes:
        warmup_ns: The workload runs at least this long (and at least twice) before the clock.
        min_block_ns: Repetitions in a block are calibrated so that a block lasts this long;
            never below 1,000 ticks of the board's clock.
        n_blocks: Blocks that are timed, each one raw sample.
        with_timestamps: After each block the same number of repetitions runs with a timestamp
            after every call; at most 200 in all, shared out among the blocks.
        timeout_ms: The child's process group is killed after this long.
    """

    warmup_ns: int
    min_block_ns: int
    n_blocks: int
    with_timestamps: bool
    timeout_ms: int


TimingRequest = tuple[Workload, TimingPlan]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The state of the board around a timing; None where the board does not tell.

    Attributes:
        load_1min: Load average.
        n_running: Processes that could run at that moment, the runner's own among them.
        steal_ticks: Time that a hypervisor took, in scheduler ticks since boot.
        clock_mhz: Clock of the core that measures.
        temperature_c: Hottest sensor, in degrees Celsius.
        throttle_events: How often the board slowed itself down since boot: cores that were too
            hot, or, where it does not count those, a quota of processor time that was used up.
        throttle_flags: A Raspberry Pi's word on its own state: bit 0 under-voltage, 1 capped
            clock, 2 throttled, 3 soft limit of temperature; 16 more bits up, since boot.
        governor: The clock governor of the core that measures.
    """

    load_1min: float | None
    n_running: int | None
    steal_ticks: int | None
    clock_mhz: float | None
    temperature_c: float | None
    throttle_events: int | None = None
    throttle_flags: int | None = None
    governor: str | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Raw samples of one visit.

    Attributes:
        n_repeats: Repetitions of the workload in each block.
        block_ns: Duration of each block, in ns; a sample is block_ns / n_repeats.
        call_ns: Shape (n_timestamped, n_calls), int64, duration of each call in each timestamped
            repetition; None without timestamps.
        tick_ns: Smallest step of the board's clock.
        n_preemptions: Times the child was switched out against its will while blocks ran.
        before, after: Conditions of the board, after the warm-up and right after the last block.
    """

    n_repeats: int
    block_ns: tuple[int, ...]
    call_ns: NDArray[np.int64] | None
    tick_ns: int
    n_preemptions: int
    before: Conditions
    after: Conditions


@dataclass(frozen=True, slots=True)
class Failure:
    """A kernel or workload that did not finish: a value, never a crash of the host.

    Attributes:
        reason: What happened.
        detail: The signal, the limit, or the message, for a person to read.
    """

    reason: FailureReason
    detail: str


class Runner(Protocol):
    """An executable of kernels that is running on a device and waits for work.

    Attributes:
        description: What the runner says of itself, its board and its lease.
    """

    description: RunnerDescription

    def time_many(self, items: Sequence[TimingRequest]) -> Iterator[Timing | Failure]:
        """Time workloads one after the other, a few requests sent ahead of the answers.

        A list may grow while its results are drawn: what is appended before its last result was
        drawn is timed, too.

        Raises:
            RunnerLostError: the runner itself is gone; what was returned so far stays valid.
        """

    def time(self, workload: Workload, plan: TimingPlan) -> Timing | Failure:
        """Time a workload; a crashing or hanging kernel is a `Failure`, the runner lives on.

        Raises:
            RunnerLostError: the runner itself is gone.
        """

    def run(
        self,
        workload: Workload,
        inputs: Mapping[int, NDArray[Any]],
        outputs: tuple[int, ...],
        timeout_ms: int,
    ) -> dict[int, NDArray[Any]] | Failure:
        """Run a workload once on given tensors and return others, all by index."""

    def close(self) -> None:
        """Stop the runner and its children."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Device(Protocol):
    """A board with a runtime that takes executables and runs them."""

    @property
    def name(self) -> str:
        """The name in the inventory."""

    def fingerprint(self) -> Fingerprint:
        """What the board is and what runs on it, read from the board."""

    def start(self, executable: Path) -> Runner:
        """Put an executable on the board, start it, and talk to it.

        Raises:
            DeviceError: the board is out of reach, full, or refuses the executable.
        """
