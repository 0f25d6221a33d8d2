"""Boards to be lost: real runners on a made tree of system files, and ways to end them."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from devices.board import Fingerprint
from devices.device import KernelCall, Tensor, TimingPlan, Workload
from devices.errors import DeviceError
from devices.lease import lease_arguments
from devices.local import LocalDevice, start_runner
from devices.session import RunnerSession
from profiler.artifacts import ArtifactStore
from profiler.bench import Bench
from profiler.compilers import Compilers
from profiler.measure import Item
from profiler.store import Store
from profiler.target import Target
from tests.unit.devices.kernels import compile_object

PLAN = TimingPlan(100_000, 50_000, 3, False, 10_000)
CANARY_PLAN = TimingPlan(100_000, 200_000, 5, False, 10_000)

#: Kernels of one tensor: one that works, and some that take things down.
KERNELS = {
    "work": "float *x = DATA(0); for (int i = 0; i < 64; i++) x[i] = x[i] * 0.5f + 1;",
    "crash": "*(volatile int *)8 = 1;",
    "hang": "for (;;) pause();",
    "end_runner": "kill(getppid(), SIGKILL); for (;;) pause();",
}
_SOURCE = """
#include <signal.h>
#include <unistd.h>
#include "tvm_abi.h"
#define DATA(i) ((float *)((DLTensor *)args[i].v_ptr)->data)
int __tvm_ffi_NAME(void *self, const TVMFFIAny *args, int32_t n, TVMFFIAny *result) {
  BODY
  return 0;
}
"""


def compile_kernels(folder: Path, target: Target, build_cache: Path) -> dict[str, Path]:
    """An object for each of `KERNELS`."""
    objects = {}
    for name, body in KERNELS.items():
        source, objects[name] = folder / f"{name}.c", folder / f"{name}.o"
        source.write_text(_SOURCE.replace("NAME", name).replace("BODY", body))
        compile_object(source, objects[name], target, build_cache)
    return objects


def item(name: str, kernel: str = "work", plan: TimingPlan = PLAN) -> Item:
    """An operator of this name that is one call of a kernel."""
    workload = Workload((Tensor("arena", 0, (64,)),), (KernelCall(kernel, (0,)),), 256, 0)
    return Item("operator", f"subject {name}", name, "gemm rows=4", (), workload, plan)


def make_tree(root: Path) -> None:
    """System files of a board that tells what a runner asks for."""
    for path, text in {
        "proc/loadavg": "0.50 0.40 0.30 1/100 1234\n",
        "proc/stat": "cpu  10 0 10 1000 0 0 0 5 0 0\nprocs_running 1\n",
        "sys/class/thermal/thermal_zone0/temp": "50000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    start_anew(root)


def start_anew(root: Path) -> None:
    """What a runner sees of a board that was switched off and on."""
    path = root / "proc/sys/kernel/random/boot_id"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{uuid.uuid4()}\n")


@dataclass
class WatchedDevice:
    """This machine, as a board that may be lost.

    Attributes:
        local: Starts real runners.
        before_start: Called before each start with how many there were; may raise what keeps the
            board from being had.
        after_start: Called with each runner that was started, before anybody else has it.
        started: Process descriptors of the runners that were started, which `send` reaches.
        lease: A file on the board whose lease runners take, or None.
        silence_s: Of heartbeats, or None without.
    """

    local: LocalDevice
    before_start: Callable[[int], None] = lambda _: None
    after_start: Callable[[RunnerSession], None] = lambda _: None
    started: list[int] = field(default_factory=list)
    lease: Path | None = None
    silence_s: float | None = None

    @property
    def name(self) -> str:
        return self.local.name

    @property
    def root(self) -> Path:
        return self.local.root

    def fingerprint(self) -> Fingerprint:
        return self.local.fingerprint()

    @property
    def host_cores(self) -> tuple[int, ...]:
        return self.local.host_cores

    def start(self, executable: Path) -> RunnerSession:
        self.before_start(len(self.started))
        session = self.start_as(executable, "us")
        self.started.append(os.pidfd_open(session.description.pid))
        self.after_start(session)
        return session

    def start_as(self, executable: Path, holder: str, *, steal: bool = False) -> RunnerSession:
        """Start a runner for somebody."""
        command = [str(executable), "--root", str(self.root)]
        if self.lease is not None:
            command += lease_arguments(str(self.lease), holder, "here", steal=steal)
        if self.silence_s is not None:
            command += ["--silence-ms", str(round(self.silence_s * 1000))]
        return start_runner(command, self.local.cores, silence_s=self.silence_s, name=self.name)

    def send(self, number: int) -> bool:
        """Send a signal to the runner that was started last; whether it still lived."""
        with suppress(ProcessLookupError, IndexError):
            signal.pidfd_send_signal(self.started[-1], number)
            return True
        return False

    def kill(self) -> bool:
        """End the runner that was started last; whether it still lived."""
        return self.send(signal.SIGKILL)

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in self.started:
            os.close(descriptor)


def open_bench(device: WatchedDevice, store: Store, folder: Path, target: Target) -> Bench:
    """A bench for a device, registered in the store."""
    device_id = store.register_device(device.fingerprint())
    return Bench(
        device, device_id, target, store, ArtifactStore(folder / "artifacts"), folder, Compilers()
    )


class Clock:
    """Time that passes while somebody sleeps, and not else."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses_s: list[float] = []

    def time(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self.now_s += pause_s


def unreachable(error: DeviceError, n_times: int, after: int = 1) -> Callable[[int], None]:
    """Keeps a board from being had so many times, from a start on."""
    left = n_times

    def check(n_started: int) -> None:
        nonlocal left
        if n_started >= after and left > 0:
            left -= 1
            raise error

    return check


def shuffle() -> np.random.Generator:
    return np.random.default_rng(11)
