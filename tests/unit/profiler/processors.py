"""A target for every kind of processor that kernels are generated for."""

from __future__ import annotations

from typing import Final

from devices.board import Board
from profiler.target import Target, target_of

_AVX2: Final = ("avx2", "fma")
_AVX512: Final = ("avx512bw", "avx512dq", "avx512f", "avx512vl")


def _target(architecture: str, *features: str) -> Target:
    return target_of(Board(architecture, "A CPU", features, 1, 1 << 30, 0, 0, 0, None, ""))


TARGETS: Final = {
    "x86-64-v3": _target("x86_64", *_AVX2),
    "x86-64-v4": _target("x86_64", *_AVX2, *_AVX512),
    "aarch64": _target("aarch64", "asimd"),
    "armv7": _target("armv7l", "neon", "vfpv4"),
    "riscv64 with vectors": _target("riscv64", "rv64imafdcv"),
    "riscv64": _target("riscv64", "rv64imafdc"),
}
