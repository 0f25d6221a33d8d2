"""Kernels are timed on boards, and whatever goes wrong leaves the board clean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.device import Failure, Timing, TimingPlan
from devices.errors import (
    ExecutableRefusedError,
    LeaseHeldError,
    RunnerLostError,
)
from devices.fill import uniform
from devices.session import RunnerSession
from profiler.target import Target
from tests.unit.devices.workloads import QUICK, N, chain

from .board import HOME, NO_EXEC, USER, Board
from .conftest import MakeDevice, build
from .test_files import sha256

LONG = TimingPlan(0, 0, 1, False, 600_000)


def times_kernels(session: RunnerSession) -> bool:
    timing = session.time(chain("add", "twice"), replace(QUICK, with_timestamps=True))
    outputs = session.run(chain("add"), {}, (2,), 10_000)
    assert isinstance(timing, Timing), timing
    assert timing.call_ns is not None
    assert not isinstance(outputs, Failure), outputs
    np.testing.assert_array_equal(outputs[2], uniform(1, 1.0, (N,)) + uniform(2, 1.0, (N,)))
    return min(timing.block_ns) > 0


def test_kernels_are_timed_on_a_board(
    board: Board, make_device: MakeDevice, executable: Path
) -> None:
    device = make_device(board)
    with device.start(executable) as first:
        assert times_kernels(first)
        crash = first.time(chain("crash"), QUICK)
        assert isinstance(crash, Failure)
        assert crash.reason == "crash"
        assert times_kernels(first)
    with device.start(executable) as second:
        assert times_kernels(second)
        assert second.description.generation > first.description.generation
    assert board.wait_until_idle() == []
    assert sha256(executable) in board.files()


def test_a_runner_has_the_arguments_and_the_launcher_of_its_device(
    openssh: Board, make_device: MakeDevice, executable: Path
) -> None:
    device = make_device(openssh, launcher=("env", "LAUNCHED=a b"), silence_s=7.5)
    with device.start(executable) as session:
        assert times_kernels(session)
        (words,) = (words for words in openssh.processes() if sha256(executable) in words)
        assert "--silence-ms 7500" in words
        environment = openssh.root_of(f"/proc/{session.description.pid}/environ").read_bytes()
        assert b"LAUNCHED=a b" in environment.split(b"\0")


def test_weights_are_brought_along(
    board: Board, make_device: MakeDevice, executable: Path, tmp_path: Path
) -> None:
    values = np.arange(N, dtype=np.float32)
    file = tmp_path / "weights"
    file.write_bytes(values.tobytes())
    workload = chain("add")
    tensors = list(workload.tensors)
    tensors[1] = replace(tensors[1], fill=None)
    with make_device(board).start(executable) as session:
        for _ in range(2):
            outputs = session.run(
                replace(workload, tensors=tuple(tensors), weights_file=file), {}, (2,), 10_000
            )
            assert not isinstance(outputs, Failure), outputs
            np.testing.assert_array_equal(outputs[2], uniform(1, 1.0, (N,)) + values)
    assert sha256(file) in board.files()


def test_a_board_has_one_measurer(board: Board, make_device: MakeDevice, executable: Path) -> None:
    mine, other = make_device(board), make_device(board, holder="other", host="other-host")
    with mine.start(executable) as session:
        with pytest.raises(LeaseHeldError, match=r"lab: tester on lab-host.*device steal lab"):
            other.start(executable)
        with other.start(executable, is_stealing=True) as thief:
            assert times_kernels(thief)
            with pytest.raises(RunnerLostError):
                times_kernels(session)
            assert thief.description.generation > session.description.generation
    assert board.wait_until_idle() == []


def test_a_link_cut_in_the_middle_of_a_visit_frees_the_board(
    own_board: Board, make_device: MakeDevice, executable: Path
) -> None:
    device = make_device(own_board, silence_s=4.0)
    session = device.start(executable)
    assert times_kernels(session)
    cutter = threading.Timer(0.5, own_board.cut)
    cutter.start()
    with pytest.raises(RunnerLostError, match=r"lab: .*4 s"):
        session.time(chain("hang"), LONG)
    cutter.join()
    assert not [words for words in own_board.wait_until_idle() if "files/" in words]
    own_board.mend()
    with device.start(executable) as again:
        assert times_kernels(again)
        assert again.description.generation > session.description.generation


def test_a_board_that_starts_anew_is_measured_on(
    own_board: Board, make_device: MakeDevice, executable: Path
) -> None:
    device = make_device(own_board)
    session = device.start(executable)
    stopper = threading.Timer(0.5, own_board.stop)
    stopper.start()
    with pytest.raises(RunnerLostError):
        session.time(chain("hang"), LONG)
    stopper.join()
    own_board.start()
    for name in own_board.files():
        (own_board.root_of(HOME) / "files" / name).unlink()
    with device.start(executable) as again:
        assert times_kernels(again)
        assert again.description.boot_id != session.description.boot_id
        assert again.description.generation > session.description.generation


HOST = """\
import json, sys
from pathlib import Path
from devices.device import TimingPlan
from devices.ssh.address import SshAddress
from devices.ssh.connection import SshConnection
from devices.ssh.device import SshDevice
from tests.unit.devices.workloads import chain
ip, user, key, known_hosts, folder, executable = sys.argv[1:]
address = SshAddress(ip, user, key_file=Path(key))
connection = SshConnection("lab", address, Path(known_hosts), ssh_folder=Path("/nowhere"))
session = SshDevice(connection, folder, holder="tester", host="killed").start(Path(executable))
print(json.dumps(session.description.generation), flush=True)
session.time(chain("hang"), TimingPlan(0, 0, 1, False, 600_000))
"""


def test_a_host_that_is_killed_leaves_nothing_on_the_board(
    board: Board, make_device: MakeDevice, executable: Path, known_hosts: Path
) -> None:
    device = make_device(board)
    words = [board.ip, USER, board.key, known_hosts, HOME, executable]
    command = [sys.executable, "-c", HOST, *map(str, words)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as host:
        assert host.stdout is not None
        generation = json.loads(host.stdout.readline())
        assert [words for words in board.processes() if "files/" in words]
        host.send_signal(signal.SIGKILL)
    assert board.wait_until_idle() == []
    with device.start(executable) as session:
        assert times_kernels(session)
        assert session.description.generation > generation


def test_an_executable_of_another_processor_is_not_sent(
    openssh: Board, make_device: MakeDevice, build_cache: Path, tmp_path: Path
) -> None:
    foreign = build(Target("aarch64-linux-gnu", "generic"), build_cache, tmp_path)
    with pytest.raises(ExecutableRefusedError, match=r"lab: .* is for ELF machine 183, x86_64"):
        make_device(openssh).start(foreign)
    assert sha256(foreign) not in openssh.files()


def test_a_folder_in_which_nothing_may_run_is_told(
    board: Board, make_device: MakeDevice, executable: Path
) -> None:
    with pytest.raises(ExecutableRefusedError, match=rf"lab cannot run .* in {NO_EXEC}"):
        make_device(board, NO_EXEC).start(executable)
    assert board.wait_until_idle() == []


CPU = "/sys/devices/system/cpu/cpu0/cpufreq"


def test_a_visit_tells_the_state_of_the_board(
    own_board: Board, make_device: MakeDevice, executable: Path
) -> None:
    own_board.write(f"{CPU}/scaling_cur_freq", "1500000\n")
    own_board.write("/sys/class/thermal/thermal_zone0/temp", "61500\n")
    own_board.throttle(0.2)
    plan = TimingPlan(0, 300_000_000, 2, False, 120_000)
    with make_device(own_board, cores=(0,)).start(executable) as session:
        timing = session.time(chain("add"), plan)
    assert isinstance(timing, Timing), timing
    assert timing.before.clock_mhz == 1500
    assert timing.before.temperature_c == 61.5
    assert timing.before.throttle_events is not None
    assert timing.after.throttle_events is not None
    assert timing.after.throttle_events > timing.before.throttle_events


def test_the_fingerprint_is_the_boards(openssh: Board, make_device: MakeDevice) -> None:
    openssh.write(f"{CPU}/scaling_governor", "lab-governor\n")
    found = make_device(openssh, versions=(("tvm", "1"),)).fingerprint()
    assert found.board.architecture == os.uname().machine
    assert found.runtime.governor == "lab-governor"
    assert found.runtime.os_image == "Lab Linux 1"
    assert ("tvm", "1") in found.runtime.versions


def test_nothing_is_open_after_a_device_was_closed(
    openssh: Board, make_device: MakeDevice, executable: Path
) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(3):
        device = make_device(openssh)
        device.start(executable).close()
        device.close()
    assert descriptors() == before


def test_what_is_no_executable_is_refused_before_the_board_is_asked(
    own_board: Board, make_device: MakeDevice, tmp_path: Path
) -> None:
    own_board.stop()
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 0 # and more\n", encoding="ascii")
    for path in (script, tmp_path / "missing"):
        with pytest.raises(ExecutableRefusedError, match=f"lab: .*{path.name}"):
            make_device(own_board).start(path)
