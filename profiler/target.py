"""What code is generated for."""

from __future__ import annotations

from dataclasses import dataclass

from devices.board import Board


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


def target_of(board: Board, threads: int = 1) -> Target:
    """The target for a board's processor, at the level that its feature flags allow.

    Raises:
        ValueError: an architecture that no kernel can be built for.
    """
    flags = set(board.cpu_features)
    l1, l2 = board.l1_bytes or 32 * 1024, board.l2_bytes or 512 * 1024
    if board.architecture == "x86_64":
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
            cpu, vector_bytes, n_registers = "x86-64-v4", 64, 32
        elif {"avx2", "fma"} <= flags:
            cpu, vector_bytes, n_registers = "x86-64-v3", 32, 16
        else:
            cpu, vector_bytes, n_registers = "x86-64", 16, 16
        return Target("x86_64-linux-gnu", cpu, (), vector_bytes, n_registers, l1, l2, threads)
    if board.architecture == "aarch64":
        return Target("aarch64-linux-gnu", "cortex-a72", (), 16, 32, l1, l2, threads)
    if board.architecture.startswith("armv7"):
        features = ("+neon", "+vfp4")
        return Target("armv7l-linux-gnueabihf", "cortex-a7", features, 16, 16, l1, l2, threads)
    if board.architecture == "riscv64":
        switches = ("+m", "+a", "+f", "+d", "+c")
        return Target("riscv64-linux-gnu", "generic-rv64", switches, 16, 32, l1, l2, threads)
    raise ValueError(
        f"architecture must be x86_64, aarch64, armv7l or riscv64, got {board.architecture!r}"
    )
