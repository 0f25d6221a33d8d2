/* What a child may take of the board: kernels are generated code, and some are wrong. */
#ifndef LATLOOP_BOUNDS_H
#define LATLOOP_BOUNDS_H

#include <stdbool.h>
#include <stdint.h>

/* Bounds core dumps (none), files and their size, and processor time, which is far beyond what
 * n_threads can take before the time-out: it ends what lives on without a runner. */
void limit_child(uint64_t timeout_ms, int n_threads);

/* Bounds memory to what is mapped now, needed_bytes for regions and answers, and a margin for
 * workspaces: half of what the board has available beyond that, at least 64 MiB and at most 1 GiB.
 * Returns the bytes that may have been touched in the end, with those of now, which are many where
 * the runner lives in somebody else's process; 0 where the system sets no such limit. */
uint64_t limit_memory(uint64_t needed_bytes, uint64_t available_bytes);

#endif
