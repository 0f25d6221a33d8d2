/* A forked child that answers with one frame, watched until a deadline. */
#ifndef LATLOOP_CHILD_H
#define LATLOOP_CHILD_H

#include <stdint.h>

#include "buffer.h"

typedef enum {
  CHILD_ANSWERED,
  CHILD_CRASHED,
  CHILD_TIMED_OUT,
  CHILD_OUT_OF_MEMORY,
  CHILD_HOST_GONE
} ChildEnd;

/* The work writes one frame to the descriptor and returns. It may leave in *progress, which the
 * parent sees, the index of the kernel call that runs, or -1. */
typedef void (*ChildWork)(int descriptor, volatile int64_t *progress, const void *context);

/* Runs work in a child in its own process group, killed whole before this returns.
 * answer: the whole frame, header included, when CHILD_ANSWERED; else a sentence for a person.
 * host: the descriptor whose other end is the host; when that closes, the child is killed. */
ChildEnd run_in_child(ChildWork work, const void *context, uint64_t timeout_ms, int host,
                      volatile int64_t *progress, Buffer *answer);

/* Memory that parent and children share, for the progress of a child. */
volatile int64_t *share_progress(void);

#endif
