/* A workload made ready to be called: kernels with their arguments, and the repetition of them. */
#ifndef LATLOOP_EXECUTE_H
#define LATLOOP_EXECUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"
#include "workload.h"

typedef struct {
  TVMFFISafeCallType function;
  int32_t n_arguments;
  TVMFFIAny arguments[MAX_CALL_TENSORS];
} BoundCall;

typedef struct {
  BoundCall *calls;
  uint64_t n_calls;
} Executable;

/* Binds every call to its tensors. */
Executable bind_calls(const Workload *workload, const Memory *memory);

/* The functions below return the index of the call that failed, or -1. */

/* Calls everything once and leaves the index of the running call in *progress, where another
 * process can read it when this one is gone; -1 afterwards. */
int64_t execute_watched(const Executable *executable, volatile int64_t *progress);

int64_t execute(const Executable *executable, uint64_t n_repeats);

/* durations_ns: n_repeats x n_calls; a call's time is from the end of the one before it. */
int64_t execute_stamped(const Executable *executable, uint64_t n_repeats, int64_t *durations_ns);

#endif
