/* The two memory regions of a workload, and what its tensors hold before the first call. */
#ifndef LATLOOP_MEMORY_H
#define LATLOOP_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "workload.h"

typedef enum { MEMORY_READY, MEMORY_FULL, MEMORY_NO_FILE } MemoryResult;

typedef struct {
  char *start[N_REGIONS];
} Memory;

/* Maps, touches and fills both regions, side by side; a failure is described in detail (MAX_DETAIL bytes). */
MemoryResult memory_prepare(const Workload *workload, Memory *memory, char *detail);

/* Address space that both regions take. */
uint64_t memory_mapped_bytes(const Workload *workload);

/* Memory that could be had without swapping, or UINT64_MAX where the board does not tell. */
uint64_t available_bytes(void);

/* Where a tensor starts. */
void *memory_tensor(const Memory *memory, const TensorPlan *tensor);

/* n numbers uniform in [-scale, scale), number i a function of seed and i alone;
 * devices/fill.py gives the same bits. */
void fill_uniform(float *out, uint64_t n, uint64_t seed, float scale);

#endif
