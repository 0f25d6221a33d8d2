/* The host at the other end: its requests in a queue, answers to it, heartbeats both ways. */
#ifndef LATLOOP_HOST_H
#define LATLOOP_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "frames.h"
#include "lease.h"

typedef struct {
  int in, out;
  int64_t silence_ms; /* 0: without heartbeats, only a closed stream says that the host is gone */
  int64_t heard_ms;   /* when the last byte came */
  int n_owed;      /* beats that were not answered yet */
  Buffer bytes;    /* not taken yet; beats that came while a child ran are gone from it */
  size_t n_scanned; /* of these, whole requests */
  Lease *lease;    /* moved on by beats, or NULL */
} Host;

/* The next request; false when the host has closed the stream. Silence, a malformed frame and a
 * lease that is no longer ours end the process with a message. */
bool host_next(Host *host, Frame *frame);

/* Sends whole frames. A host that is gone ends the process. */
void host_send(Host *host, const void *data, size_t n_bytes);

/* For who waits for something else meanwhile: what to poll host->in for, at most how long, and
 * what to do with the result, whatever it is. Requests that come are queued, up to a bound far
 * beyond what a host sends ahead: from there on nothing is read. False when the host is gone; the
 * reason, if it is no closed stream, is on stderr. */
short host_events(const Host *host);
int host_patience_ms(const Host *host);
bool host_listen(Host *host, short events);

#endif
