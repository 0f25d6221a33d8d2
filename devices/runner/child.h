/* A forked child that answers with one frame, watched until a deadline. */
#ifndef LATLOOP_CHILD_H
#define LATLOOP_CHILD_H

#include <stdint.h>

#include "buffer.h"
#include "host.h"

typedef enum {
  CHILD_ANSWERED,
  CHILD_CRASHED,
  CHILD_TIMED_OUT,
  CHILD_OUT_OF_MEMORY,
  CHILD_HOST_GONE
} ChildEnd;

/* What a child leaves for its parent, who sees it when the child is gone. */
typedef struct {
  int64_t call;          /* index of the kernel call that runs, or -1 */
  uint64_t memory_bytes; /* what the child may touch, or 0 as long as it has no limit */
} ChildNotes;

/* The work writes one frame to the descriptor and returns. */
typedef void (*ChildWork)(int descriptor, volatile ChildNotes *notes, const void *context);

/* Runs work in a child in its own process group, killed whole before this returns.
 * answer: the whole frame, header included, when CHILD_ANSWERED; else a sentence for a person.
 * host: listened to meanwhile; when it is gone, the child is killed. */
ChildEnd run_in_child(ChildWork work, const void *context, uint64_t timeout_ms, Host *host,
                      volatile ChildNotes *notes, Buffer *answer);

/* Memory that parent and children share, for the notes of a child. */
volatile ChildNotes *share_notes(void);

#endif
