/* Warm-up, calibration and timed blocks of one workload; knows nothing of processes. */
#ifndef LATLOOP_TIMING_H
#define LATLOOP_TIMING_H

#include <stdbool.h>
#include <stdint.h>

#include "conditions.h"
#include "execute.h"
#include "json.h"

typedef struct {
  uint64_t warmup_ns;
  uint64_t min_block_ns;
  uint64_t n_blocks;
  bool with_timestamps;
} TimingPlan;

typedef struct {
  uint64_t n_repeats;
  uint64_t n_blocks;
  int64_t *block_ns;      /* n_blocks */
  uint64_t n_timestamped; /* rows of call_ns */
  int64_t *call_ns;       /* n_timestamped x n_calls */
  long n_preemptions;
  Conditions before, after;
} Samples;

bool timing_plan_read(const JsonNode *node, TimingPlan *plan, char *detail);

/* Times what ran at least once before. core < 0: not pinned.
 * Returns the index of the call that failed, or -1. */
int64_t time_blocks(const Executable *executable, const TimingPlan *plan, int64_t tick_ns,
                    int64_t core, Samples *samples);

#endif
