#define _GNU_SOURCE
#include "timing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "processor.h"

enum { MIN_BLOCK_TICKS = 1000, MAX_STAMPED = 200, MAX_STAMPS = 1 << 21, MAX_RESTARTS = 5 };
#define MAX_BLOCKS UINT64_C(100000)
#define MAX_REPEATS (UINT64_C(1) << 32)
#define MAX_PLAN_NS UINT64_C(3600000000000)

/* How many repetitions carry timestamps. */
typedef struct {
  uint64_t per_block;
  uint64_t most;
} StampPlan;

bool timing_plan_read(const JsonNode *node, TimingPlan *plan, char *detail) {
  const JsonNode *stamps = json_get(node, "with_timestamps");
  if (!json_u64(json_get(node, "warmup_ns"), &plan->warmup_ns) ||
      !json_u64(json_get(node, "min_block_ns"), &plan->min_block_ns) ||
      !json_u64(json_get(node, "n_blocks"), &plan->n_blocks) || !stamps) {
    snprintf(detail, MAX_DETAIL,
             "a plan needs warmup_ns, min_block_ns, n_blocks (whole, >= 0) and with_timestamps");
    return false;
  }
  plan->with_timestamps = stamps->type == JSON_TRUE;
  if (plan->warmup_ns > MAX_PLAN_NS || plan->min_block_ns > MAX_PLAN_NS) {
    snprintf(detail, MAX_DETAIL, "warmup_ns and min_block_ns must be up to an hour");
    return false;
  }
  if (plan->n_blocks >= 1 && plan->n_blocks <= MAX_BLOCKS) return true;
  snprintf(detail, MAX_DETAIL, "n_blocks must be from 1 to %llu, got %llu",
           (unsigned long long)MAX_BLOCKS, (unsigned long long)plan->n_blocks);
  return false;
}

static int64_t warm_up(const Executable *executable, uint64_t warmup_ns) {
  int64_t start = now_ns(), failed = -1;
  do {
    failed = execute(executable, 1);
  } while (failed < 0 && (uint64_t)(now_ns() - start) < warmup_ns);
  return failed;
}

/* Repetitions that would have filled the goal at the pace seen, and 5 % more. */
static uint64_t scale_repeats(uint64_t n_repeats, int64_t elapsed_ns, int64_t goal_ns) {
  double factor = elapsed_ns > 0 ? (double)goal_ns / (double)elapsed_ns * 1.05 : 16;
  if (factor > 16) factor = 16; /* a short block tells little: approach in steps */
  double wanted = (double)n_repeats * factor + 1;
  return wanted < (double)MAX_REPEATS ? (uint64_t)wanted : MAX_REPEATS;
}

static int64_t calibrate(const Executable *executable, int64_t goal_ns, uint64_t *n_repeats) {
  for (*n_repeats = 1; *n_repeats < MAX_REPEATS;) {
    int64_t start = now_ns();
    int64_t failed = execute(executable, *n_repeats);
    int64_t elapsed = now_ns() - start;
    if (failed >= 0) return failed;
    if (elapsed >= goal_ns) break;
    *n_repeats = scale_repeats(*n_repeats, elapsed, goal_ns);
  }
  return -1;
}

static long count_preemptions(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

/* One round of all blocks; *shortest_ns becomes the shortest block seen. */
static int64_t run_blocks(const Executable *executable, StampPlan stamps, Samples *samples,
                          int64_t *shortest_ns) {
  *shortest_ns = INT64_MAX;
  samples->n_timestamped = 0;
  samples->n_preemptions = 0;
  for (uint64_t block = 0; block < samples->n_blocks; block++) {
    long n_before = count_preemptions();
    int64_t start = now_ns();
    int64_t failed = execute(executable, samples->n_repeats);
    int64_t elapsed = now_ns() - start;
    samples->n_preemptions += count_preemptions() - n_before;
    if (failed >= 0) return failed;
    samples->block_ns[block] = elapsed;
    if (elapsed < *shortest_ns) *shortest_ns = elapsed;
    uint64_t n_rows =
        stamps.per_block < samples->n_repeats ? stamps.per_block : samples->n_repeats;
    if (samples->n_timestamped + n_rows > stamps.most) continue;
    failed = execute_stamped(executable, n_rows,
                             samples->call_ns + samples->n_timestamped * executable->n_calls);
    if (failed >= 0) return failed;
    samples->n_timestamped += n_rows;
  }
  return -1;
}

static StampPlan plan_stamps(const Executable *executable, const TimingPlan *plan) {
  uint64_t n_most = MAX_STAMPS / executable->n_calls;
  if (n_most > MAX_STAMPED) n_most = MAX_STAMPED;
  if (!plan->with_timestamps || !n_most) return (StampPlan){0};
  return (StampPlan){n_most / plan->n_blocks ? n_most / plan->n_blocks : 1, n_most};
}

static void make_room(const Executable *executable, uint64_t n_rows, Samples *samples) {
  size_t n_bytes = (size_t)n_rows * (size_t)executable->n_calls * sizeof(int64_t);
  samples->block_ns = calloc(samples->n_blocks, sizeof(int64_t));
  samples->call_ns = malloc(n_bytes + 1);
  if (!samples->block_ns || !samples->call_ns) die("out of memory: no room for samples");
  memset(samples->block_ns, 0xff, samples->n_blocks * sizeof(int64_t)); /* touch the pages */
  memset(samples->call_ns, 0xff, n_bytes);
}

int64_t time_blocks(const Executable *executable, const TimingPlan *plan, int64_t tick_ns,
                    int64_t core, Samples *samples) {
  int64_t goal_ns = (int64_t)plan->min_block_ns, shortest_ns, failed;
  if (goal_ns < MIN_BLOCK_TICKS * tick_ns) goal_ns = MIN_BLOCK_TICKS * tick_ns;
  StampPlan stamps = plan_stamps(executable, plan);
  samples->n_blocks = plan->n_blocks;
  make_room(executable, stamps.most, samples);
  if ((failed = warm_up(executable, plan->warmup_ns)) >= 0) return failed;
  if ((failed = calibrate(executable, goal_ns, &samples->n_repeats)) >= 0) return failed;
  samples->before = read_conditions(core);
  for (int round = 0; round <= MAX_RESTARTS; round++) {
    /* Reading the conditions, or the round before, has cooled the caches. */
    if ((failed = execute(executable, 1)) >= 0) return failed;
    if ((failed = run_blocks(executable, stamps, samples, &shortest_ns)) >= 0) return failed;
    if (shortest_ns >= goal_ns || samples->n_repeats >= MAX_REPEATS) break;
    /* Calibrated while the board was slower: all blocks again, none picked by its result. */
    samples->n_repeats = scale_repeats(samples->n_repeats, shortest_ns, goal_ns);
  }
  samples->after = read_conditions(core);
  return -1;
}
