/* Pinned threads that run the tasks of a parallel kernel beside the thread that calls it. */
#ifndef LATLOOP_POOL_H
#define LATLOOP_POOL_H

#include <stdbool.h>
#include <stddef.h>

enum { MAX_HELPERS = 255 };
#define POOL_STACK_BYTES ((size_t)8 << 20)

typedef int (*PoolWork)(int task, void *context);

/* Starts a thread on each of these cores; false with errno set when the system refuses one, whose
 * position is left in *refused. Called once, after a fork: threads do not follow a child. */
bool pool_start(const int *cores, int n_helpers, int *refused);

/* Threads that run tasks now, the caller's among them: 1 without a pool, and inside of a task. */
int pool_size(void);

/* Runs work(0) to work(n_tasks - 1), each once, in turn where pool_size() is 1; returns 0, or what
 * a task returned that failed. All that tasks wrote is seen by the caller afterwards. */
int pool_run(PoolWork work, void *context, int n_tasks);

#endif
