"""Which runtime a device runs."""

from __future__ import annotations

from profiler.bench import Bench
from profiler.build import compiler_versions
from profiler.runtime import Runtime
from profiler.runtimes import ort, own


def open_runtime(name: str, bench: Bench) -> Runtime:
    """The runtime of this name on a bench.

    Raises:
        ValueError: no such runtime.
    """
    if name == own.NAME:
        return own.OwnRuntime(bench)
    if name == ort.NAME:
        return ort.OrtRuntime(bench)
    raise ValueError(f"runtime must be {own.NAME} or {ort.NAME}, got {name!r}")


def runtime_versions(name: str) -> tuple[tuple[str, str], ...]:
    """(component, version) pairs of what makes a runtime's code, beyond what its device knows."""
    return compiler_versions() if name == own.NAME else ort.EXPORT_VERSIONS
