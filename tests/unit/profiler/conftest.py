from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import profiler
from devices.local import LocalDevice
from devices.session import RunnerSession
from profiler.artifacts import ArtifactStore
from profiler.build import BuildFailure, Kernel, build_kernels, object_files
from profiler.link import link_executable
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import default_schedule
from profiler.target import Target, target_of

from .networks import NETWORKS

Request = tuple[Operator, Schedule]
#: All that decides a kernel's code: kernels of other sources must not come from a kept cache.
SOURCES = (
    "compile.py", "elf.py", "fast_math.py", "kernels/*.py", "layout.py", "minimal_filtering.py",
    "operator.py", "schedules/*.py",
)  # fmt: skip


@dataclass(frozen=True)
class Linked:
    """Kernels, or why there is none, and one executable that holds them."""

    kernels: dict[Request, Kernel | BuildFailure]
    executable: Path

    def kernel(self, operator: Operator, schedule: Schedule) -> Kernel:
        kernel = self.kernels[operator, schedule]
        assert isinstance(kernel, Kernel), f"{schedule.text} does not compile: {kernel.detail}"
        return kernel


Link = Callable[[Sequence[Request]], Linked]


@pytest.fixture(scope="session")
def host_target() -> Target:
    return target_of(LocalDevice().fingerprint().board)


@pytest.fixture(scope="session")
def link_kernels(build_cache: Path, host_target: Target) -> Link:
    folder = Path(profiler.__path__[0])
    found = {pattern: sorted(folder.glob(pattern)) for pattern in SOURCES}
    assert all(found.values()), found
    sources = [path for paths in found.values() for path in paths]
    hashed = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    artifacts = ArtifactStore(build_cache / "kernels" / hashed[:16])

    def link(requests: Sequence[Request]) -> Linked:
        # Of several test processes with one cache the first compiles, the others find it done.
        with (build_cache / "kernels" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            built = build_kernels(requests, host_target, artifacts)
            kernels = [kernel for kernel in built if isinstance(kernel, Kernel)]
            files = object_files(kernels, artifacts, build_cache / "kernels" / "objects")
            executable = link_executable(files, host_target, build_cache)
        return Linked(dict(zip(requests, built, strict=True)), executable)

    return link


@dataclass(frozen=True)
class NetworkBench:
    """The networks of `networks.py`, ready to run."""

    kernels: dict[Operator, Kernel]
    executable: Path


@pytest.fixture(scope="session")
def network_bench(link_kernels: Link, host_target: Target) -> NetworkBench:
    operators = dict.fromkeys(op for network in NETWORKS for op in network.operators)
    requests = [(operator, default_schedule(operator, host_target)) for operator in operators]
    linked = link_kernels(requests)
    kernels = {operator: linked.kernel(operator, schedule) for operator, schedule in requests}
    return NetworkBench(kernels, linked.executable)


@pytest.fixture(scope="session")
def network_runner(network_bench: NetworkBench) -> Iterator[RunnerSession]:
    with LocalDevice().start(network_bench.executable) as runner:
        yield runner
