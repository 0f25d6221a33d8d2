"""Kernels from operators and schedules: compiled once, kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from profiler.artifacts import ArtifactStore
from profiler.elf import CANONICAL_NAME, rename
from profiler.operator import Operator
from profiler.schedules import space
from profiler.schedules.schedule import Schedule
from profiler.target import Target

Progress = Callable[[int, int], None]
_FEW = 24  # below this many kernels a second compiler process costs more than it saves
_WRITERS = (
    "kernels/*.py",
    "schedules/*.py",
    "compile.py",
    "fast_math.py",
    "layout.py",
    "minimal_filtering.py",
)
_CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT})  # how LLVM dies of a kernel


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


class CompilerLostError(RuntimeError):
    """The compiler process cannot be started or died again and again: stop and repair it."""


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
) -> tuple[Kernel | BuildFailure, ...]:
    """Compile what the cache does not hold, in as many processes as there are cores.

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

    def compile_one(compiler: _Compiler, index: int) -> None:
        results[index] = compiler.compile(*requests[index], target, artifacts)
        progress(len(results) - len(requests) + len(missing), len(missing))

    _compile_side_by_side(missing, compile_one)
    return tuple(results[index] for index in range(len(requests)))


def _compile_side_by_side(
    indices: Sequence[int], compile_one: Callable[[_Compiler, int], None]
) -> None:
    """Work off indices in as many compiler processes as pay; the first error ends all."""
    if not indices:
        return
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in indices:
        waiting.put(index)
    errors: list[BaseException] = []
    stop = threading.Event()

    def serve() -> None:
        try:
            with _Compiler() as compiler:
                while not stop.is_set():
                    compile_one(compiler, waiting.get_nowait())
        except queue.Empty:
            return
        except BaseException as error:  # raised again in the caller's thread
            errors.append(error)
            stop.set()

    n_workers = min(os.cpu_count() or 1, 8) if len(indices) > _FEW else 1
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


class _Compiler:
    """The host's end of one compiler process; started again when a kernel kills it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def compile(
        self, operator: Operator, schedule: Schedule, target: Target, artifacts: ArtifactStore
    ) -> Kernel | BuildFailure:
        """Compile one kernel and keep its object file."""
        request = {
            "operator": operator.key,
            "schedule": schedule.text,
            "target": asdict(target),
            "loops": _loops(operator, artifacts),
        }
        answer = self._ask(json.dumps(request).encode() + b"\n")
        if isinstance(answer, str):
            return BuildFailure(operator, schedule, answer)
        digest = artifacts.put_bytes(answer)
        artifacts.alias(_cache_key(operator, schedule, target), digest)
        return Kernel(operator, schedule, digest)

    def _ask(self, request: bytes) -> bytes | str:
        fresh = self._process is None
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line.endswith(b"\n"):
            header = json.loads(line)
            if "error" in header:
                return str(header["error"])
            n_bytes = int(header["n_bytes"])
            data = process.stdout.read(n_bytes)
            if len(data) == n_bytes:
                return data
        code = process.wait()
        self._stop()
        if fresh and not line and code not in _CRASHES:
            raise CompilerLostError(
                f"the compiler process ended with exit code {code} before it answered; "
                f"run `{Path(sys.executable).name} -m profiler.compile_worker` to see why"
            )
        return f"the compiler process crashed (exit code {code})"

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "profiler.compile_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
