/* The audit of a board's lease: who ended whose session. */
#ifndef LATLOOP_LEASE_LOG_H
#define LATLOOP_LEASE_LOG_H

#include <stdbool.h>

#include "lease.h"

/* Appends a line to the log beside the lease: lease wants to take it at this UTC time from whom
 * lease->record names. False with errno set when it cannot be written. */
bool log_steal(const Lease *lease, const char *now);

#endif
