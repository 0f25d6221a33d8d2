"""What a board is, apart from what runs on it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Board:
    """Hardware alone: it does not change when software does.

    Attributes:
        architecture: As `uname -m` prints it.
        cpu_model: The processor's name.
        cpu_features: Instruction-set flags, sorted.
        n_cores: Cores that the system shows.
        memory_bytes: Memory, rounded to 64 MiB because kernels keep varying amounts.
        l1_bytes, l2_bytes, l3_bytes: Data caches that one core sees, in bytes; 0 where unknown.
        max_clock_mhz: Highest clock that the board reports, or None.
        serial: A serial number that the board shows to anyone, or "".
    """

    architecture: str
    cpu_model: str
    cpu_features: tuple[str, ...]
    n_cores: int
    memory_bytes: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    max_clock_mhz: float | None
    serial: str

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this hardware."""
        return _digest(asdict(self))


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs on a board and can make it faster or slower.

    Attributes:
        name: The kind of runtime, such as `latloop`.
        threads: Threads that a kernel may use.
        versions: (component, version) pairs, sorted: compiler, linker, runner protocol.
        kernel_release: As `uname -r` prints it.
        os_image: The operating system's name and version.
        governor: The clock governor, or "" where the board does not tell.
    """

    name: str
    threads: int
    versions: tuple[tuple[str, str], ...]
    kernel_release: str
    os_image: str
    governor: str

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this runtime."""
        return _digest(asdict(self))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A device: a board with a runtime."""

    board: Board
    runtime: Runtime

    @property
    def device_id(self) -> str:
        """Names the device in stores: board and runtime."""
        return f"{self.board.id}-{self.runtime.id}"
