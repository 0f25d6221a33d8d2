from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from devices.errors import ExecutableRefusedError, RunnerLostError, TooFewCoresError
from devices.local import LocalDevice


def refusal(path: Path) -> str:
    with pytest.raises(ExecutableRefusedError) as caught:
        LocalDevice().start(path)
    return str(caught.value)


def test_what_is_no_executable_of_this_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert "cannot read" in refusal(path)
    path.write_bytes(b"#!/bin/sh\n" + bytes(20))
    assert "is not an executable of Linux" in refusal(path)
    path.write_bytes(b"\x7fELF" + bytes(14) + struct.pack("<H", 2))  # SPARC
    assert "is for ELF machine 2" in refusal(path)


def test_an_executable_that_may_not_be_run_is_refused(executable: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(executable.read_bytes())
    path.chmod(0o644)
    assert "cannot start" in refusal(path)


def test_a_program_that_is_no_runner_is_lost_with_its_last_words() -> None:
    with pytest.raises(RunnerLostError):
        LocalDevice().start(Path("/bin/true"))
    with pytest.raises(RunnerLostError, match="--root"):
        LocalDevice(root=Path("/somewhere")).start(Path("/bin/date"))


def test_the_last_core_measures_unless_another_is_named() -> None:
    assert LocalDevice().cores == (max(os.sched_getaffinity(0)),)
    assert LocalDevice(core=0).cores == (0,)


def test_no_threads_and_more_than_there_are_cores_are_refused() -> None:
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        LocalDevice(threads=0)
    n_cores = len(os.sched_getaffinity(0))
    assert len(set(LocalDevice(threads=n_cores).cores)) == n_cores
    with pytest.raises(TooFewCoresError, match=f"at most {n_cores}, .* got {n_cores + 1}"):
        _ = LocalDevice(threads=n_cores + 1).cores


def test_no_descriptor_is_left_open(executable: Path) -> None:
    def n_open() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = n_open()
    for _ in range(3):
        LocalDevice().start(executable).close()
        with pytest.raises(RunnerLostError):
            LocalDevice().start(Path("/bin/true"))
    assert n_open() == before
