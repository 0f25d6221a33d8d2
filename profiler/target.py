"""What code is generated for."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Final

from devices.board import Board
from devices.inventory_rules import ARCHITECTURES
from devices.tables import TargetTable

#: The letters of `isa` in /proc/cpuinfo with V among them. Linux of processors with a draft of it,
#: whose instructions are others, lists s and u, too, which are no extensions.
_RISCV_VECTORS: Final = re.compile(r"rv64[a-rtw-z]*v[a-rtw-z]*(_|$)")
#: What there are kernels and a runner for.
TRIPLES: Final = (
    "x86_64-linux-gnu",
    "aarch64-linux-gnu",
    "armv7l-linux-gnueabihf",
    "riscv64-linux-gnu",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A processor as the compiler and the schedules see it.

    Attributes:
        triple: LLVM triple, such as `x86_64-linux-gnu`.
        cpu: LLVM's name of the processor, such as `x86-64-v3`.
        features: LLVM feature switches, such as `+neon`.
        vector_bytes: Width of a vector register in bytes; 4 where there are single numbers alone.
        n_vector_registers: Vector registers that a loop may hold; floating-point registers where
            there are no vectors.
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
        # On a Cortex-A7 LLVM keeps from fused multiply-adds, most of all where one follows another,
        # for their latency. Several sums hide that, and two instructions take a register more.
        features = ("+neon", "+vfp4", "-slowfpvfmx", "-vmlx-hazards")
        # Of 16. Numbers of rows are put into all lanes as they are loaded, and LLVM does so for
        # some rows ahead: of tiles that leave one register for them it spills sums.
        return Target("armv7l-linux-gnueabihf", "cortex-a7", features, 16, 14, l1, l2, threads)
    if board.architecture == "riscv64":
        has_vectors = any(map(_RISCV_VECTORS.match, flags))
        switches = ("+m", "+a", "+f", "+d", "+c", *(("+v",) if has_vectors else ()))
        # V promises 128 bits; code for those runs on wider registers, too.
        n_bytes = 16 if has_vectors else 4
        return Target("riscv64-linux-gnu", "generic-rv64", switches, n_bytes, 32, l1, l2, threads)
    *first, last = ARCHITECTURES
    raise ValueError(
        f"architecture must be {', '.join(first)} or {last}, got {board.architecture!r}"
    )


def override_target(target: Target, table: TargetTable) -> Target:
    """A target with what a person says in its place.

    Another triple makes another target, of which nothing is known but what the person says.

    Raises:
        ValueError: key, value and rule; the target would make no sense.
    """
    if table.triple is not None and table.triple not in TRIPLES:
        raise ValueError(f"triple must be one of {', '.join(TRIPLES)}, got {table.triple!r}")
    said = {name: value for name, value in asdict(table).items() if value is not None}
    changed = replace(target, **said)
    lacking = sorted({"cpu", "features", "vector_bytes", "n_vector_registers"} - set(said))
    if changed.triple != target.triple and lacking:
        raise ValueError(
            f"triple must be {target.triple!r} as the board's, unless {', '.join(lacking)} "
            f"are given, too, got {changed.triple!r}"
        )
    if changed.l1_bytes > changed.l2_bytes:
        raise ValueError(
            f"l1_bytes must be <= l2_bytes, {changed.l2_bytes}, got {changed.l1_bytes}"
        )
    return changed


def table_of(target: Target) -> dict[str, str | int | list[str]]:
    """A target's attributes by the keys of `TargetTable`, but for what a device says elsewhere."""
    said: dict[str, str | int | list[str]] = {
        "triple": target.triple,
        "cpu": target.cpu,
        "features": list(target.features),
        "vector_bytes": target.vector_bytes,
        "n_vector_registers": target.n_vector_registers,
        "l1_bytes": target.l1_bytes,
        "l2_bytes": target.l2_bytes,
    }
    return said
