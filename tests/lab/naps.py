"""Kernels whose times are known from below, and which notice when two of them run at once.

A nap of so many microseconds never takes less, so an answer that was given to another kernel's
question shows. Each kernel's process holds a lock of its own on the board from its first call to
its end, apart from the lease: of two that measure at once one fails, and its failure is a row.
"""

from __future__ import annotations

from pathlib import Path

from devices.device import KernelCall, Tensor, TimingPlan, Workload
from profiler.link import link_executable
from profiler.measure import Item
from profiler.target import Target
from tests.unit.devices.kernels import compile_object

#: Microseconds that each kernel sleeps at the least.
NAPS_US = {f"nap_{us}": us for us in (200, 500, 900, 1400, 2000, 2700)}
CANARY_US = 300
WITNESS = "/tmp/latloop-lab-witness"
OVERLAP = "another process measures on this board"
_SOURCE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "tvm_abi.h"
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);
static int is_alone(void) {
  static int held = -1;
  struct timespec pause = {0, 1000000};
  if (held >= 0) return 1;
  held = open("WITNESS", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  /* The lock of one that is ending is free within the moment that its descriptors are closed in. */
  for (int i = 0; i < 20; i++, nanosleep(&pause, 0))
    if (!flock(held, LOCK_EX | LOCK_NB)) return 1;
  return 0;
}
int __tvm_ffi_NAME(void *self, const TVMFFIAny *args, int32_t n, TVMFFIAny *result) {
  struct timespec pause = {0, NAP_US * 1000};
  if (!is_alone()) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", "OVERLAP");
    return -1;
  }
  return nanosleep(&pause, 0);
}
"""


def build_naps(target: Target, build_cache: Path, folder: Path) -> Path:
    """The kernels with the runner."""
    objects = {}
    for name, nap_us in {**NAPS_US, "canary": CANARY_US}.items():
        text = _SOURCE.replace("NAP_US", str(nap_us)).replace("WITNESS", WITNESS)
        source, objects[name] = folder / f"{name}.c", folder / f"{name}.o"
        source.write_text(text.replace("OVERLAP", OVERLAP).replace("NAME", name))
        compile_object(source, objects[name], target, build_cache)
    return link_executable(objects, target, build_cache)


def least_ns(kernel: str) -> int:
    """What one call of a kernel takes at the least."""
    return 1000 * (CANARY_US if kernel == "canary" else NAPS_US[kernel])


def item(kernel: str, subject: str, n_blocks: int = 3) -> Item:
    """A visit to one kernel, of a millisecond a block or somewhat more."""
    workload = Workload((Tensor("arena", 0, (16,)),), (KernelCall(kernel, (0,)),), 64, 0)
    plan = TimingPlan(0, 1_000_000, n_blocks, False, 6_000)
    return Item("operator", subject, kernel, "", (), workload, plan)


def items(host: str, sweep: int, n_blocks: int) -> list[Item]:
    """What one sweep of many visits; other sweeps and hosts visit other subjects."""
    return [item(kernel, f"{host} {sweep} {kernel}", n_blocks) for kernel in NAPS_US]
