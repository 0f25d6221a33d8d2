/* What a child does for a `time` or a `run` request, and the answers. */
#ifndef LATLOOP_REQUESTS_H
#define LATLOOP_REQUESTS_H

#include "child.h"
#include "frames.h"
#include "json.h"
#include "pool.h"
#include "timing.h"
#include "workload.h"

/* What every answer begins with. */
typedef struct {
  uint64_t id;
  uint64_t generation; /* of the lease, 0 without one */
} AnswerTag;

typedef struct {
  AnswerTag tag;
  bool is_timing; /* else a run */
  int64_t core;   /* -1: not pinned */
  int n_helpers;  /* threads beside the one that calls kernels */
  int helper_cores[MAX_HELPERS];
  uint64_t timeout_ms;
  int64_t tick_ns;
  Workload workload;
  TimingPlan plan;
  const JsonNode *inputs, *outputs; /* tensor indices, run only */
  uint64_t output_bytes;
  const char *blob;
  uint64_t blob_bytes;
} Request;

/* Reads a time or run request; false leaves the broken rule in detail (MAX_DETAIL bytes).
 * request_free is right after either result. */
bool request_read(const JsonNode *node, const Frame *frame, Request *request, char *detail);
void request_free(Request *request);

/* A ChildWork whose context is a Request. */
void work_on_request(int descriptor, volatile ChildNotes *notes, const void *context);

/* Begins the JSON of an answer, without the closing brace. */
void write_tag(Buffer *json, AnswerTag tag);
/* All of a failure's JSON but the closing brace. */
void write_failure(Buffer *json, AnswerTag tag, const char *reason, const char *detail);

#endif
