#define _GNU_SOURCE
#include "tvm_abi.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "pool.h"
#include "processor.h"

enum { N_WORKSPACES = 256, WORKSPACE_ALIGNMENT = 64 };

typedef struct {
  void *data;
  uint64_t n_bytes;
  int in_use;
} Workspace;

typedef struct {
  void *sync_handle;
  int32_t num_task;
} TVMParallelGroupEnv;

typedef int (*FTVMParallelLambda)(int task_id, TVMParallelGroupEnv *environment, void *closure);

/* One launch of a parallel kernel: what its environment's handle points to. */
typedef struct {
  FTVMParallelLambda lambda;
  void *closure;
  TVMParallelGroupEnv environment;
  bool is_together; /* all tasks run at once, so that they may wait for each other */
  atomic_int n_arrived;
  atomic_uint n_barriers;
} Launch;

static _Thread_local Workspace workspaces[N_WORKSPACES];
static char error_text[1024]; /* of the first error: others may follow from it */
static atomic_bool lacked_memory;
static pthread_mutex_t error_mutex = PTHREAD_MUTEX_INITIALIZER;

const Kernel *find_kernel(const char *name) {
  for (size_t i = 0; i < latloop_n_kernels; i++)
    if (!strcmp(latloop_kernels[i].name, name)) return &latloop_kernels[i];
  return NULL;
}

const char *kernel_error(void) { return error_text; }

bool kernel_lacked_memory(void) { return atomic_load(&lacked_memory); }

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n_parts) {
  pthread_mutex_lock(&error_mutex);
  bool is_first = !*error_text;
  if (is_first) snprintf(error_text, sizeof error_text, "%s: ", kind);
  for (int32_t i = 0; i < n_parts && is_first; i++) {
    size_t length = strlen(error_text);
    if (parts[i]) snprintf(error_text + length, sizeof error_text - length, "%s", parts[i]);
  }
  pthread_mutex_unlock(&error_mutex);
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}

static void *refuse_workspace(uint64_t n_bytes) {
  char text[128];
  snprintf(text, sizeof text, "no room for a workspace of %llu bytes", (unsigned long long)n_bytes);
  atomic_store(&lacked_memory, true);
  TVMFFIErrorSetRaisedFromCStr("MemoryError", text);
  return NULL;
}

/* Blocks are kept and given out again to the same thread, the smallest that fits: a kernel that
 * allocates at every call would otherwise be timed with its page faults. */
void *TVMBackendAllocWorkspace(int device_type, int device_id, uint64_t n_bytes,
                               int type_code, int type_bits) {
  (void)device_type, (void)device_id, (void)type_code, (void)type_bits;
  Workspace *best = NULL, *empty = NULL;
  for (Workspace *each = workspaces; each < workspaces + N_WORKSPACES; each++) {
    if (!each->data) {
      empty = each;
      break;
    }
    if (!each->in_use && each->n_bytes >= n_bytes && (!best || each->n_bytes < best->n_bytes))
      best = each;
  }
  if (!best && empty) {
    void *data = NULL;
    if (n_bytes > SIZE_MAX || posix_memalign(&data, WORKSPACE_ALIGNMENT, (size_t)n_bytes))
      return refuse_workspace(n_bytes);
    *empty = (Workspace){data, n_bytes, 0};
    best = empty;
  }
  if (!best) return NULL;
  best->in_use = 1;
  return best->data;
}

int TVMBackendFreeWorkspace(int device_type, int device_id, void *data) {
  (void)device_type, (void)device_id;
  for (Workspace *each = workspaces; each < workspaces + N_WORKSPACES && each->data; each++)
    if (each->data == data) {
      each->in_use = 0;
      return 0;
    }
  return -1;
}

static int run_task(int task, void *context) {
  Launch *launch = context;
  return launch->lambda(task, &launch->environment, launch->closure);
}

/* As many tasks as there are threads where a kernel leaves it open: it divides its work by the
 * number that it finds. */
int TVMBackendParallelLaunch(FTVMParallelLambda lambda, void *closure, int n_tasks) {
  Launch launch = {.lambda = lambda, .closure = closure};
  launch.environment.sync_handle = &launch;
  launch.environment.num_task = n_tasks > 0 ? n_tasks : pool_size();
  launch.is_together = launch.environment.num_task <= pool_size();
  return pool_run(run_task, &launch, launch.environment.num_task);
}

int TVMBackendParallelBarrier(int task_id, TVMParallelGroupEnv *environment) {
  (void)task_id;
  Launch *launch = environment->sync_handle;
  if (!launch->is_together) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError",
                                 "more tasks wait for each other than there are threads");
    return -1;
  }
  unsigned number = atomic_load(&launch->n_barriers);
  if (atomic_fetch_add(&launch->n_arrived, 1) + 1 == environment->num_task) {
    atomic_store(&launch->n_arrived, 0);
    atomic_fetch_add(&launch->n_barriers, 1);
  }
  while (atomic_load(&launch->n_barriers) == number) relax();
  return 0;
}

/* Kernels reach the functions above through pointers that their objects define weakly. */
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = TVMBackendAllocWorkspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = TVMBackendFreeWorkspace;
int (*__TVMBackendParallelLaunch)(FTVMParallelLambda, void *, int) = TVMBackendParallelLaunch;
int (*__TVMBackendParallelBarrier)(int, TVMParallelGroupEnv *) = TVMBackendParallelBarrier;

int TVMFFIFunctionCall(void *function, TVMFFIAny *arguments, int32_t n_arguments,
                       TVMFFIAny *result) {
  (void)function, (void)arguments, (void)n_arguments, (void)result;
  TVMFFIErrorSetRaisedFromCStr("RuntimeError", "the kernel calls a packed function: the runner has none");
  return -1;
}

int TVMFFIEnvModLookupFromImports(void *library, const char *name, void **out) {
  (void)library, (void)out;
  const char *parts[] = {"the kernel asks for the packed function ", name,
                         ": the runner has none"};
  TVMFFIErrorSetRaisedFromCStrParts("RuntimeError", parts, 3);
  return -1;
}

int TVMFFIHandleInitOnce(void **handle, int (*init)(void **result)) {
  return *handle ? 0 : init(handle);
}
