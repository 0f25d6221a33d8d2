/* A workload as a request describes it: tensors at fixed places, kernel calls in order. */
#ifndef LATLOOP_WORKLOAD_H
#define LATLOOP_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "tvm_abi.h"

enum { MAX_DIMENSIONS = 8, MAX_CALL_TENSORS = 64, MAX_DETAIL = 1024 };

typedef enum { REGION_ARENA, REGION_WEIGHTS, N_REGIONS } Region;

typedef struct {
  Region region;
  uint64_t offset_bytes;
  DLDataType type;
  uint64_t n_elements;
  uint64_t n_bytes;
  int32_t n_dimensions;
  int64_t shape[MAX_DIMENSIONS];
  bool has_fill;
  uint64_t seed;
  float scale;
} TensorPlan;

typedef struct {
  const Kernel *kernel;
  int32_t n_tensors;
  uint32_t tensors[MAX_CALL_TENSORS];
} CallPlan;

typedef struct {
  TensorPlan *tensors;
  uint64_t n_tensors;
  CallPlan *calls;
  uint64_t n_calls;
  uint64_t region_bytes[N_REGIONS];
  const char *weights_file; /* or NULL */
} Workload;

/* Reads and checks a workload; false leaves the broken rule in detail (MAX_DETAIL bytes).
 * Strings stay inside the JSON. workload_free is right after either result. */
bool workload_read(const JsonNode *node, Workload *workload, char *detail);
void workload_free(Workload *workload);

#endif
