from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import devices.runner
from profiler.link import ZIG_TARGETS
from profiler.target import Target

#: Small kernels in TVM's calling convention, written by hand. Tensors have one dimension.
KERNELS = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
#include "tvm_abi.h"

extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void *);
typedef struct { void *sync_handle; int32_t num_task; } Group;
extern int (*__TVMBackendParallelLaunch)(int (*)(int, Group *, void *), void *, int);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);
int TVMFFIFunctionCall(void *, TVMFFIAny *, int32_t, TVMFFIAny *);

#define KERNEL(name) \\
  int __tvm_ffi_##name(void *self, const TVMFFIAny *args, int32_t n, TVMFFIAny *result)
#define TENSOR(i) ((DLTensor *)args[i].v_ptr)
#define DATA(i) ((float *)TENSOR(i)->data)

typedef struct { const float *in; float *out; int64_t n; } Parts;
__attribute__((unused)) static int negate_part(int task, Group *group, void *closure) {
  Parts *parts = closure;
  int64_t n_part = (parts->n + group->num_task - 1) / group->num_task;
  for (int64_t i = task * n_part; i < (task + 1) * n_part && i < parts->n; i++)
    parts->out[i] = -parts->in[i];
  return 0;
}

KERNEL(add) {
  for (int64_t i = 0; i < TENSOR(0)->shape[0]; i++) DATA(2)[i] = DATA(0)[i] + DATA(1)[i];
  return 0;
}

KERNEL(twice) { /* through a workspace, which must be the same at every call */
  static float *last;
  int64_t n_bytes = TENSOR(0)->shape[0] * 4;
  float *space = __TVMBackendAllocWorkspace(1, 0, n_bytes, 2, 32);
  float *other = __TVMBackendAllocWorkspace(1, 0, n_bytes, 2, 32);
  if (!space || !other || space == other || (uintptr_t)space % 64 || (last && space != last))
    return -1;
  last = space;
  for (int64_t i = 0; i < n_bytes / 4; i++) space[i] = DATA(0)[i] * 2;
  for (int64_t i = 0; i < n_bytes / 4; i++) DATA(1)[i] = space[i];
  return __TVMBackendFreeWorkspace(1, 0, space) | __TVMBackendFreeWorkspace(1, 0, other);
}

KERNEL(negate) {
  Parts parts = {DATA(0), DATA(1), TENSOR(0)->shape[0]};
  return __TVMBackendParallelLaunch(negate_part, &parts, 0);
}

KERNEL(describe) { /* what a kernel sees of its arguments: all as TVM's own checks want it */
  DLTensor *t = TENSOR(0);
  float *out = DATA(0);
  out[0] = (float)n;
  out[1] = (float)args[0].type_index;
  out[2] = (float)t->ndim;
  out[3] = (float)t->device.device_type;
  out[4] = (float)t->dtype.code;
  out[5] = (float)t->dtype.bits;
  out[6] = (float)t->dtype.lanes;
  out[7] = (float)((uintptr_t)t->data % 64);
  return 0;
}

KERNEL(crash) { *(volatile int *)8 = 1; return 0; }
KERNEL(overrun) { DATA(0)[TENSOR(0)->shape[0] + (1 << 19)] = 1; return 0; }
KERNEL(hang) { for (volatile int i = 0;; i++) {} return 0; }
KERNEL(leave) { exit(3); return 0; }
KERNEL(print) { printf("kernels may print\\n"); fflush(stdout); return 0; }
KERNEL(refuse) {
  TVMFFIErrorSetRaisedFromCStr("ValueError", "expects a \\"square\\" tensor");
  return -1;
}
KERNEL(call_packed) { TVMFFIAny out; return TVMFFIFunctionCall(0, 0, 0, &out); }
KERNEL(hang_with_child) { if (!fork()) { for (;;) pause(); } for (;;) pause(); return 0; }
KERNEL(subnormal) { DATA(1)[0] = DATA(0)[0] * 0.5f; return 0; }
KERNEL(be_killed) { kill(getpid(), SIGKILL); return 0; }
"""

SOURCES = Path(devices.runner.__path__[0])


def compile_object(source: Path, output: Path, target: Target, build_cache: Path) -> None:
    cache = str(build_cache / "zig")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[target.triple], "-O1"]
    subprocess.run(
        [*command, "-I", str(SOURCES), "-c", str(source), "-o", str(output)],
        env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
        check=True,
    )


def compile_kernels(folder: Path, target: Target, build_cache: Path) -> dict[str, Path]:
    """One object a kernel, as TVM makes them."""
    head, *bodies = KERNELS.split("\nKERNEL(")
    objects: dict[str, Path] = {}
    for body in bodies:
        name = body.partition(")")[0]
        source, objects[name] = folder / f"{name}.c", folder / f"{name}.o"
        source.write_text(f"{head}\nKERNEL({body}")
        compile_object(source, objects[name], target, build_cache)
    return objects
