"""Kernels from operators and schedules: compiled once, kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from profiler.artifacts import ArtifactStore
from profiler.compilers import Compilers
from profiler.elf import CANONICAL_NAME, rename
from profiler.operator import Operator
from profiler.schedules import space
from profiler.schedules.schedule import Schedule
from profiler.target import Target

Progress = Callable[[int, int], None]
_MAX_WORKERS = 8
_WRITERS = (
    "kernels/*.py",
    "schedules/*.py",
    "compile.py",
    "fast_math.py",
    "layout.py",
    "minimal_filtering.py",
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """An operator compiled for a target with a schedule.

    Attributes:
        operator, schedule: What was compiled.
        object_digest: SHA-256 of its object file, under which the artefact store keeps it.
    """

    operator: Operator
    schedule: Schedule
    object_digest: str

    @property
    def name(self) -> str:
        """`k_` and 16 hexadecimal digits of the hash of its object code."""
        return f"k_{self.object_digest[:16]}"


@dataclass(frozen=True, slots=True)
class BuildFailure:
    """A schedule that did not compile: a value, recorded like any other result."""

    operator: Operator
    schedule: Schedule
    detail: str


class BuildCacheError(RuntimeError):
    """A file of the build cache is gone or damaged: build again."""


def unheard(done: int, total: int) -> None:  # a Progress
    """Report progress to nobody."""


@cache
def compiler_versions() -> tuple[tuple[str, str], ...]:
    """(component, version) pairs of everything that decides what code is made."""
    return (
        ("apache-tvm", version("apache-tvm")),
        ("apache-tvm-ffi", version("apache-tvm-ffi")),
        ("schedules", str(space.VERSION)),
        ("ziglang", version("ziglang")),
    )


@cache
def writers_digest(folder: Path = Path(__file__).parent) -> str:
    """Sixteen hexadecimal digits that change with the sources that write kernels.

    A key of the cache has them, so that a changed writer is never served its old code. A device's
    name goes without: a comment must not void what was measured there.
    """
    digest = hashlib.sha256()
    for pattern in _WRITERS:
        for path in sorted(folder.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build_kernels(
    requests: Sequence[tuple[Operator, Schedule]],
    target: Target,
    artifacts: ArtifactStore,
    progress: Progress = unheard,
    compilers: Compilers | None = None,
) -> tuple[Kernel | BuildFailure, ...]:
    """Compile what the cache does not hold, in as many processes as there are cores.

    Args:
        requests: What to compile, and how.
        target: What code is generated for.
        artifacts: The cache.
        progress: Called with how many of the missing kernels are compiled, and how many there are.
        compilers: Processes to use; None starts some and ends them.

    Returns:
        A kernel or a failure for each request, in input order.

    Raises:
        CompilerLostError: compiler processes die before they answer.
        ArtifactError: the cache's disk is full.
    """
    results: dict[int, Kernel | BuildFailure] = {}
    missing = []
    for index, (operator, schedule) in enumerate(requests):
        cached = _cached(operator, schedule, target, artifacts)
        if cached is None:
            missing.append(index)
        else:
            results[index] = cached

    def compile_one(compilers: Compilers, index: int) -> None:
        results[index] = _compile(*requests[index], target, artifacts, compilers)
        progress(len(results) - len(requests) + len(missing), len(missing))

    with nullcontext(compilers) if compilers else Compilers() as chosen:
        _work_off(missing, lambda index: compile_one(chosen, index))
    return tuple(results[index] for index in range(len(requests)))


def _work_off(indices: Sequence[int], compile_one: Callable[[int], None]) -> None:
    """Work off indices in as many threads as there are cores; the first error ends all."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in indices:
        waiting.put(index)
    errors: list[BaseException] = []
    stop = threading.Event()

    def serve() -> None:
        try:
            while not stop.is_set():
                compile_one(waiting.get_nowait())
        except queue.Empty:
            return
        except BaseException as error:  # raised again in the caller's thread
            errors.append(error)
            stop.set()

    n_workers = min(os.cpu_count() or 1, _MAX_WORKERS, len(indices))
    threads = [threading.Thread(target=serve, daemon=True) for _ in range(n_workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        stop.set()
    if errors:
        raise errors[0]


def _compile(
    operator: Operator,
    schedule: Schedule,
    target: Target,
    artifacts: ArtifactStore,
    compilers: Compilers,
) -> Kernel | BuildFailure:
    """Compile one kernel and keep its object file."""
    request = {
        "operator": operator.key,
        "schedule": schedule.text,
        "target": asdict(target),
        "loops": _loops(operator, artifacts),
    }
    answer = compilers.compile(json.dumps(request).encode() + b"\n")
    if isinstance(answer, str):
        return BuildFailure(operator, schedule, answer)
    digest = artifacts.put_bytes(answer)
    artifacts.alias(_cache_key(operator, schedule, target), digest)
    return Kernel(operator, schedule, digest)


def _cache_key(operator: Operator, schedule: Schedule, target: Target) -> str:
    components = (*compiler_versions(), ("writers", writers_digest()))
    versions = " ".join(f"{name}={number}" for name, number in components)
    return f"kernel {versions} {target.key} {operator.key} {schedule.text}"


def _cached(
    operator: Operator, schedule: Schedule, target: Target, artifacts: ArtifactStore
) -> Kernel | None:
    digest = artifacts.lookup(_cache_key(operator, schedule, target))
    return None if digest is None else Kernel(operator, schedule, digest)


def object_files(
    kernels: Sequence[Kernel], artifacts: ArtifactStore, folder: Path
) -> dict[str, Path]:
    """Put each kernel's object file under its own symbol into a folder; returns name -> file.

    Raises:
        BuildCacheError: an object file vanished from the artefact store or was damaged.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for kernel in kernels:
        path = folder / f"{kernel.name}.o"
        if not path.exists():
            data = artifacts.get(kernel.object_digest)
            if data is None:
                raise BuildCacheError(
                    f"object {kernel.object_digest} of {kernel.operator.key} is missing or damaged "
                    f"in {artifacts.folder}; run the command again to compile it anew"
                )
            new = path.with_suffix(f".{os.getpid()}.new")
            new.write_bytes(rename(data, CANONICAL_NAME, kernel.name))
            new.replace(path)
        files[kernel.name] = path
    return files


def _loops(operator: Operator, artifacts: ArtifactStore) -> str | None:
    """The loops of a generic operator, which the import of its model kept."""
    if operator.body is None:
        return None
    data = artifacts.get(operator.body.digest)
    if data is None:
        raise BuildCacheError(
            f"the loops of {operator.key} are missing or damaged in {artifacts.folder}; import the "
            "model that holds it again"
        )
    return data.decode()
