"""Which runtime a device runs."""

from __future__ import annotations

from profiler.bench import Bench
from profiler.build import compiler_versions
from profiler.runtime import Runtime
from profiler.runtimes import ort, own, tuning
from profiler.tunings import LISTED, TuningPolicy


def open_runtime(name: str, bench: Bench, policy: TuningPolicy = LISTED) -> Runtime:
    """The runtime of this name on a bench.

    Args:
        name: Of the runtime.
        bench: The device.
        policy: How candidates are chosen, where there are several.

    Raises:
        ValueError: no such runtime.
    """
    if name == tuning.NAME:
        return own.OwnRuntime(bench, policy)
    if name == ort.NAME:
        return ort.OrtRuntime(bench)
    raise ValueError(f"runtime must be {tuning.NAME} or {ort.NAME}, got {name!r}")


def runtime_versions(name: str) -> tuple[tuple[str, str], ...]:
    """(component, version) pairs of what makes a runtime's code, beyond what its device knows."""
    return compiler_versions() if name == tuning.NAME else ort.EXPORT_VERSIONS
