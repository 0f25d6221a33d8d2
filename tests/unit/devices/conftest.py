from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.local import LocalDevice
from devices.session import RunnerSession
from profiler.link import ZIG_TARGETS, link_executable
from profiler.target import Target

from .kernels import compile_kernels


@pytest.fixture(scope="session")
def host_target() -> Target:
    triple = next(t for t in ZIG_TARGETS if t.startswith(platform.machine()))
    return Target(triple, "generic")


@pytest.fixture(scope="session")
def kernel_objects(
    build_cache: Path, host_target: Target, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    return compile_kernels(tmp_path_factory.mktemp("kernels"), host_target, build_cache)


@pytest.fixture(scope="session")
def executable(kernel_objects: dict[str, Path], host_target: Target, build_cache: Path) -> Path:
    return link_executable(kernel_objects, host_target, build_cache)


@pytest.fixture
def runner(executable: Path) -> Iterator[RunnerSession]:
    with LocalDevice().start(executable) as session:
        yield session
