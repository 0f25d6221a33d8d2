"""What code is generated for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A processor as the compiler and the schedules see it.

    Attributes:
        triple: LLVM triple, such as `x86_64-linux-gnu`.
        cpu: LLVM's name of the processor, such as `x86-64-v3`.
        features: LLVM feature switches, such as `+neon`.
        vector_bytes: Width of a vector register in bytes.
        n_vector_registers: Vector registers that a loop may hold.
        l1_bytes, l2_bytes: Data caches of one core, in bytes.
        threads: Threads a kernel may use.
    """

    triple: str
    cpu: str
    features: tuple[str, ...] = ()
    vector_bytes: int = 16
    n_vector_registers: int = 16
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be >= 1, got {self.threads}")

    @property
    def key(self) -> str:
        """The canonical text of this target, part of every build's cache key."""
        return (
            f"{self.triple}:{self.cpu}:{','.join(self.features)}:v{self.vector_bytes}"
            f":r{self.n_vector_registers}:l1={self.l1_bytes}:l2={self.l2_bytes}:t{self.threads}"
        )

    @property
    def lanes(self) -> int:
        """float32 numbers in one vector register."""
        return self.vector_bytes // 4
