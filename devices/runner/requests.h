/* What a child does for a `time` or a `run` request, and the answers. */
#ifndef LATLOOP_REQUESTS_H
#define LATLOOP_REQUESTS_H

#include "frames.h"
#include "json.h"
#include "pool.h"
#include "timing.h"
#include "workload.h"

typedef struct {
  uint64_t id;
  bool is_timing; /* else a run */
  int64_t core;   /* -1: not pinned */
  int n_helpers;  /* threads beside the one that calls kernels */
  int helper_cores[MAX_HELPERS];
  uint64_t timeout_ms;
  int64_t tick_ns;
  Workload workload;
  TimingPlan plan;
  const JsonNode *inputs, *outputs; /* tensor indices, run only */
  const char *blob;
  uint64_t blob_bytes;
} Request;

/* Reads a time or run request; false leaves the broken rule in detail (MAX_DETAIL bytes).
 * request_free is right after either result. */
bool request_read(const JsonNode *node, const Frame *frame, Request *request, char *detail);
void request_free(Request *request);

/* A ChildWork whose context is a Request. */
void work_on_request(int descriptor, volatile int64_t *progress, const void *context);

void write_failure(Buffer *json, uint64_t id, const char *reason, const char *detail);

#endif
