/* One measurer at a time: a lock on a file of the board, and in it who holds it. */
#ifndef LATLOOP_LEASE_H
#define LATLOOP_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

enum { LEASE_RECORD_BYTES = 2048, MAX_LEASE_TEXT = 100, MAX_LEASE_DETAIL = 1024 };

typedef enum { LEASE_TAKEN, LEASE_HELD, LEASE_DISK_FULL, LEASE_FAILED } LeaseResult;

typedef struct {
  /* Set by who wants the lease. */
  const char *path;
  const char *holder, *host; /* for people to read, up to MAX_LEASE_TEXT bytes each */
  bool steals;
  int64_t silence_ms; /* the lease ends when no beat comes for so long; 0: it has no expiry */

  /* Set by lease_take. */
  uint64_t generation;
  int descriptor; /* holds the lock; children inherit it, so that they hold it, too */
  char record[LEASE_RECORD_BYTES + 1]; /* as it was last written */
  char acquired[32];
  int64_t moved_ms;
} Lease;

/* Takes the lease. The generation is then higher than that of every session before.
 * LEASE_HELD: the holder's record, a line of JSON, or "" when it cannot be read, is in
 * lease->record. Other failures: detail (MAX_LEASE_DETAIL bytes) names the file and the remedy. */
LeaseResult lease_take(Lease *lease, char *detail);

/* False, with a message on stderr, when the lease is no longer ours: its file was replaced or
 * says something else. Whoever sees that must answer nothing more. */
bool lease_is_ours(const Lease *lease);

/* A beat came: moves the expiry on, seldom enough to spare the board's disk. As lease_is_ours. */
bool lease_move_on(Lease *lease);

/* Notes that the session has ended; the lock itself goes with the last of its processes. */
void lease_release(Lease *lease);

#endif
