#include "execute.h"

#include <stdlib.h>

#include "processor.h"

Executable bind_calls(const Workload *workload, const Memory *memory) {
  Executable executable = {calloc(workload->n_calls, sizeof(BoundCall)), workload->n_calls};
  DLTensor *tensors = calloc(workload->n_tensors + 1, sizeof(DLTensor));
  if (!executable.calls || !tensors) die("out of memory: no room for a workload");
  for (uint64_t i = 0; i < workload->n_tensors; i++) {
    TensorPlan *plan = &workload->tensors[i];
    tensors[i] = (DLTensor){.data = memory_tensor(memory, plan),
                            .device = {1, 0},
                            .ndim = plan->n_dimensions,
                            .dtype = plan->type,
                            .shape = plan->shape};
  }
  for (uint64_t i = 0; i < workload->n_calls; i++) {
    const CallPlan *plan = &workload->calls[i];
    BoundCall *call = &executable.calls[i];
    call->function = plan->kernel->function;
    call->n_arguments = plan->n_tensors;
    for (int32_t k = 0; k < plan->n_tensors; k++)
      call->arguments[k] =
          (TVMFFIAny){.type_index = TVM_FFI_DLTENSOR_PTR, .v_ptr = &tensors[plan->tensors[k]]};
  }
  return executable;
}

static inline int call_kernel(const BoundCall *call) {
  TVMFFIAny result = {0};
  return call->function(NULL, call->arguments, call->n_arguments, &result);
}

int64_t execute_watched(const Executable *executable, volatile int64_t *progress) {
  for (uint64_t i = 0; i < executable->n_calls; i++) {
    *progress = (int64_t)i;
    if (call_kernel(&executable->calls[i])) return (int64_t)i;
  }
  *progress = -1;
  return -1;
}

int64_t execute(const Executable *executable, uint64_t n_repeats) {
  for (uint64_t repeat = 0; repeat < n_repeats; repeat++)
    for (uint64_t i = 0; i < executable->n_calls; i++)
      if (call_kernel(&executable->calls[i])) return (int64_t)i;
  return -1;
}

int64_t execute_stamped(const Executable *executable, uint64_t n_repeats, int64_t *durations_ns) {
  int64_t last = now_ns();
  for (uint64_t repeat = 0; repeat < n_repeats; repeat++)
    for (uint64_t i = 0; i < executable->n_calls; i++) {
      if (call_kernel(&executable->calls[i])) return (int64_t)i;
      int64_t now = now_ns();
      *durations_ns++ = now - last;
      last = now;
    }
  return -1;
}
