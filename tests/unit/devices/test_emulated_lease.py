"""Leases and heartbeats of runners for other processors, under qemu."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from devices.device import Failure, Timing
from devices.errors import LeaseHeldError, RunnerLostError
from profiler.link import link_executable
from profiler.target import Target

from .kernels import compile_kernels
from .leases import processes_of, start, wait_until
from .workloads import QUICK, chain

pytestmark = pytest.mark.lab

EMULATORS = {
    "aarch64-linux-gnu": "qemu-aarch64-static",
    "armv7l-linux-gnueabihf": "qemu-arm-static",
    "riscv64-linux-gnu": "qemu-riscv64-static",
}
FEW = ("add", "hang", "hang_with_child", "take_workspaces")


@pytest.mark.parametrize("triple", EMULATORS)
def test_a_lease_is_taken_held_and_stolen(triple: str, build_cache: Path, tmp_path: Path) -> None:
    emulator = shutil.which(EMULATORS[triple])
    if emulator is None:
        pytest.skip(f"{EMULATORS[triple]} is not installed (Debian: package qemu-user-static)")
    target, lease = Target(triple, "generic"), tmp_path / "lease"
    objects = compile_kernels(tmp_path, target, build_cache, FEW)
    executable = link_executable(objects, target, tmp_path / "linked")
    command = [emulator, str(executable)]
    with start(command, lease) as first:
        assert first.description.generation == 1
        assert isinstance(first.time(chain("add"), QUICK), Timing)
        hanging = first.time(chain("hang_with_child"), replace(QUICK, timeout_ms=2_000))
        assert isinstance(hanging, Failure)
        assert hanging.reason == "timeout"
        assert wait_until(lambda: len(processes_of(executable)) == 1)
        with pytest.raises(LeaseHeldError, match="ada on bench"):
            start(command, lease, "bob")
        with start(command, lease, "bob", steal=True) as second:
            assert second.description.generation == 2
            with pytest.raises(RunnerLostError):
                first.time(chain("add"), QUICK)
            assert isinstance(second.time(chain("add"), QUICK), Timing)
    assert wait_until(lambda: not processes_of(executable))
