from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

import devices.runner
from profiler.link import ZIG_TARGETS
from profiler.target import Target

#: Small kernels in TVM's calling convention, written by hand. Tensors have one dimension.
KERNELS = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#include "tvm_abi.h"

extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void *);
typedef struct { void *sync_handle; int32_t num_task; } Group;
extern int (*__TVMBackendParallelLaunch)(int (*)(int, Group *, void *), void *, int);
extern int (*__TVMBackendParallelBarrier)(int, Group *);
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

/* Tasks find the output in their closure; some cannot all do so, and are no inline functions. */
#define TASK(name) \\
  __attribute__((unused)) static int name(int task, Group *group, void *closure)
#define LAUNCH(name, n_tasks) return __TVMBackendParallelLaunch(name, DATA(0), n_tasks)
static atomic_int counts[64];
TASK(count) { counts[task]++; ((float *)closure)[task] = group->num_task; return 0; }
TASK(find_core) { /* all at once, so that no thread runs two */
  if (__TVMBackendParallelBarrier(task, group)) return -1;
  ((float *)closure)[2 * task] = sched_getcpu();
  ((float *)closure)[2 * task + 1] = group->num_task;
  return 0;
}
TASK(crash_second) { (void)group; if (task == 1) *(volatile int *)8 = 1; return closure ? 0 : 1; }
TASK(hang_second) {
  (void)group, (void)closure;
  for (volatile int i = 0; task == 1;) i = i;
  return 0;
}
TASK(refuse_second) {
  (void)group, (void)closure;
  if (task == 1) TVMFFIErrorSetRaisedFromCStr("ValueError", "not for task 1");
  return task == 1;
}
TASK(halve) {
  (void)group;
  volatile float *own = (float *)closure + task;
  *own = 1.17549435e-38f;
  *own = *own * 0.5f;
  return 0;
}
TASK(pass_on) { /* what the next task has written before the barrier */
  float *values = closure;
  values[task] = 10 + task;
  if (__TVMBackendParallelBarrier(task, group)) return -1;
  float next = values[(task + 1) % group->num_task];
  if (__TVMBackendParallelBarrier(task, group)) return -1;
  values[task] = next;
  return 0;
}
TASK(fill_space) { /* tasks must not get the same workspace */
  float *space = __TVMBackendAllocWorkspace(1, 0, 4 * 4096, 2, 32);
  if (!space) return -1;
  for (int i = 0; i < 4096; i++) space[i] = task + 1;
  float sum = 0;
  for (int i = 0; i < 4096; i++) sum += ((volatile float *)space)[i];
  ((float *)closure)[task] = sum;
  (void)group;
  return __TVMBackendFreeWorkspace(1, 0, space);
}
TASK(launch_again) {
  (void)group;
  return __TVMBackendParallelLaunch(count, (float *)closure + 8 * task, task + 1);
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
KERNEL(tasks_of_64) { LAUNCH(count, 64); }
KERNEL(one_task) { LAUNCH(count, 1); }
KERNEL(task_of_each_thread) { LAUNCH(find_core, 0); }
KERNEL(crash_in_task) { LAUNCH(crash_second, 0); }
KERNEL(hang_in_task) { LAUNCH(hang_second, 0); }
KERNEL(refuse_in_task) { LAUNCH(refuse_second, 0); }
KERNEL(subnormal_in_task) { LAUNCH(halve, 0); }
KERNEL(barriers) {
  for (int i = 0; i < 50; i++)
    if (__TVMBackendParallelLaunch(pass_on, DATA(0), 0)) return -1;
  return 0;
}
KERNEL(barrier_of_64) { LAUNCH(pass_on, 64); }
KERNEL(workspace_in_task) { LAUNCH(fill_space, 0); }
KERNEL(launch_in_task) { LAUNCH(launch_again, 0); }
KERNEL(many_launches) { /* all tasks of one are done before the next */
  for (int i = 1; i <= 2000; i++) {
    if (__TVMBackendParallelLaunch(count, DATA(0), 5)) return -1;
    for (int task = 0; task < 5; task++)
      if (counts[task] % 2000 != i % 2000) return -1;
  }
  return 0;
}
KERNEL(nap) { /* longer than threads wait for work before they sleep */
  struct timespec pause = {0, 8000000};
  nanosleep(&pause, 0);
  return 0;
}
KERNEL(be_killed) { kill(getpid(), SIGKILL); return 0; }
KERNEL(take_workspaces) { /* as TVM does, and gives none back */
  for (;;) {
    void *space = __TVMBackendAllocWorkspace(1, 0, 16 << 20, 2, 32);
    if (!space) return -1;
    memset(space, 1, 16 << 20);
  }
}
KERNEL(take_memory) { /* without a look at what comes back */
  for (;;) for (volatile char *at = malloc(1 << 24), *end = at + (1 << 24); at < end; at += 512)
    *at = 1;
}
KERNEL(fill_disk) {
  char text[4096] = "";
  FILE *file = tmpfile();
  while (file && fwrite(text, 1, sizeof text, file)) {}
  return -1;
}
KERNEL(print_on_and_on) { for (;;) puts("kernels may print, but not without end"); }
KERNEL(open_files) {
  for (DATA(0)[0] = 0; open("/dev/null", O_RDONLY) >= 0; DATA(0)[0]++) {}
  return 0;
}
KERNEL(find_limits) {
  static const int resources[] = {RLIMIT_CORE, RLIMIT_CPU};
  for (int i = 0; i < 2; i++) {
    struct rlimit limit;
    getrlimit(resources[i], &limit);
    DATA(0)[i] = (float)limit.rlim_cur;
  }
  return 0;
}
"""

SOURCES = Path(devices.runner.__path__[0])


def compile_object(source: Path, output: Path, target: Target, build_cache: Path) -> None:
    cache = str(build_cache / "zig")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[target.triple], "-O1"]
    subprocess.run(
        [*command, "-fPIC", "-I", str(SOURCES), "-c", str(source), "-o", str(output)],
        env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
        check=True,
    )


def compile_kernels(
    folder: Path, target: Target, build_cache: Path, only: Container[str] | None = None
) -> dict[str, Path]:
    """One object a kernel, as TVM makes them, of all or of a few."""
    head, *bodies = KERNELS.split("\nKERNEL(")
    objects: dict[str, Path] = {}
    for body in bodies:
        name = body.partition(")")[0]
        if only is not None and name not in only:
            continue
        source, objects[name] = folder / f"{name}.c", folder / f"{name}.o"
        source.write_text(f"{head}\nKERNEL({body}")
        compile_object(source, objects[name], target, build_cache)
    return objects
