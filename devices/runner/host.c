#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "processor.h"

enum { READ_BYTES = 65536, QUEUE_BYTES = 1 << 18, BEAT_BYTES = 64, PIPE_BYTES = 4096 };

static const char beat_json[] = "{\"op\":\"beat\"}";

short host_events(const Host *host) {
  bool reads = host->silence_ms && host->bytes.length < QUEUE_BYTES;
  return reads ? POLLIN | POLLRDHUP : POLLRDHUP;
}

int host_patience_ms(const Host *host) {
  if (!host->silence_ms) return INT_MAX;
  int64_t left_ms = host->heard_ms + host->silence_ms - clock_ms();
  return left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}

static bool is_silent(const Host *host) {
  if (host_patience_ms(host)) return false;
  fprintf(stderr, "latloop runner: heard nothing from the host for %lld ms\n",
          (long long)host->silence_ms);
  return true;
}

static bool is_beat(const char *json, uint32_t json_bytes) {
  char text[BEAT_BYTES + 1];
  if (json_bytes > BEAT_BYTES) return false;
  memcpy(text, json, json_bytes);
  text[json_bytes] = 0;
  JsonNode *node = json_parse(text, json_bytes);
  const char *op = json_string(json_get(node, "op"));
  bool is_one = op && !strcmp(op, "beat");
  free(node);
  return is_one;
}

/* Answers beats, as far as the host takes that at once: it must not keep us. */
static void answer_beats(Host *host) {
  struct pollfd out = {host->out, POLLOUT, 0};
  char frame[FRAME_HEADER_BYTES + sizeof beat_json];
  frame_pack_header(frame, sizeof beat_json - 1, 0);
  memcpy(frame + FRAME_HEADER_BYTES, beat_json, sizeof beat_json - 1);
  for (; host->n_owed && poll(&out, 1, 0) == 1 && out.revents & POLLOUT; host->n_owed--)
    if (!write_all(host->out, frame, FRAME_HEADER_BYTES + sizeof beat_json - 1)) exit(0);
}

static bool hear_beat(Host *host) {
  host->n_owed++;
  return !host->lease || lease_move_on(host->lease);
}

/* Reads what is there: how many bytes, 0 when the stream is closed. */
static size_t read_some(Host *host, char *data, size_t n_bytes) {
  ssize_t got;
  do {
    got = read(host->in, data, n_bytes);
  } while (got < 0 && errno == EINTR);
  if (got < 0) die("cannot read the request: %s", strerror(errno));
  host->heard_ms = clock_ms();
  return (size_t)got;
}

static void drop_front(Host *host, size_t start, size_t n_bytes) {
  Buffer *bytes = &host->bytes;
  bytes->length -= n_bytes;
  memmove(bytes->data + start, bytes->data + start + n_bytes, bytes->length - start);
}

static void check_sizes(uint32_t json_bytes, uint32_t blob_bytes, bool is_valid) {
  if (!is_valid)
    die("malformed frame: JSON of %u bytes (1 to %u allowed), blob of %u bytes (up to %u)",
        (unsigned)json_bytes, MAX_JSON_BYTES, (unsigned)blob_bytes, MAX_BLOB_BYTES);
}

/* Takes beats out of what has come, behind and between whole requests. False when the host is to
 * be given up. */
static bool take_beats(Host *host) {
  uint32_t json_bytes, blob_bytes;
  for (;;) {
    const char *frame = host->bytes.data + host->n_scanned;
    size_t n_left = host->bytes.length - host->n_scanned;
    if (n_left < FRAME_HEADER_BYTES) return true;
    if (!frame_unpack_header(frame, &json_bytes, &blob_bytes)) return true; /* host_next's affair */
    size_t n_bytes = FRAME_HEADER_BYTES + (size_t)json_bytes + blob_bytes;
    if (n_left < n_bytes) return true;
    if (!is_beat(frame + FRAME_HEADER_BYTES, json_bytes)) {
      host->n_scanned += n_bytes;
    } else {
      drop_front(host, host->n_scanned, n_bytes);
      if (!hear_beat(host)) return false;
    }
  }
}

static bool queue_requests(Host *host) {
  size_t got = read_some(host, buffer_reserve(&host->bytes, READ_BYTES), READ_BYTES);
  host->bytes.length += got;
  return got && take_beats(host);
}

bool host_listen(Host *host, short events) {
  if (events & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) return false;
  if (events & POLLIN && !queue_requests(host)) return false;
  answer_beats(host);
  return !is_silent(host);
}

/* Waits for at least one byte; false when the stream is closed. */
static bool read_more(Host *host, char *data, size_t n_bytes, size_t *n_read) {
  struct pollfd in = {host->in, POLLIN, 0};
  while (host->silence_ms && poll(&in, 1, host_patience_ms(host)) != 1)
    if (is_silent(host)) exit(2);
  *n_read = read_some(host, data, n_bytes);
  return *n_read;
}

/* Takes n_bytes of what has come, and waits for the rest. */
static char *take_part(Host *host, size_t n_bytes, const char *part) {
  char *data = malloc(n_bytes + 1);
  if (!data) die("out of memory: no room for a request's %s of %zu bytes", part, n_bytes);
  size_t n_read = n_bytes < host->bytes.length ? n_bytes : host->bytes.length, got;
  if (n_read) memcpy(data, host->bytes.data, n_read);
  if (n_read) drop_front(host, 0, n_read);
  for (; n_read < n_bytes; n_read += got)
    if (!read_more(host, data + n_read, n_bytes - n_read, &got))
      die("malformed frame: the %s ends after %zu of %zu bytes", part, n_read, n_bytes);
  data[n_bytes] = 0;
  return data;
}

static bool take_frame(Host *host, Frame *frame) {
  size_t got;
  while (host->bytes.length < FRAME_HEADER_BYTES) {
    char *end = buffer_reserve(&host->bytes, READ_BYTES);
    if (!read_more(host, end, READ_BYTES, &got)) {
      if (host->bytes.length)
        die("malformed frame: the header ends after %zu of 8 bytes", host->bytes.length);
      return false;
    }
    host->bytes.length += got;
  }
  bool is_valid = frame_unpack_header(host->bytes.data, &frame->json_bytes, &frame->blob_bytes);
  check_sizes(frame->json_bytes, frame->blob_bytes, is_valid);
  size_t n_bytes = FRAME_HEADER_BYTES + (size_t)frame->json_bytes + frame->blob_bytes;
  host->n_scanned = host->n_scanned > n_bytes ? host->n_scanned - n_bytes : 0;
  drop_front(host, 0, FRAME_HEADER_BYTES);
  frame->json = take_part(host, frame->json_bytes, "JSON");
  frame->blob = take_part(host, frame->blob_bytes, "blob");
  return true;
}

bool host_next(Host *host, Frame *frame) {
  while (take_frame(host, frame)) {
    bool is_request = !is_beat(frame->json, frame->json_bytes);
    if (!is_request) frame_free(frame);
    /* What came together with a request is looked through before somebody works on that. */
    if ((!is_request && !hear_beat(host)) || !take_beats(host)) exit(2);
    answer_beats(host);
    if (is_request) return true;
  }
  return false;
}

/* A pipe that can be written to takes this much without making the writer wait. */
static size_t write_some(Host *host, const char *data, size_t n_bytes) {
  ssize_t n_written = write(host->out, data, n_bytes < PIPE_BYTES ? n_bytes : PIPE_BYTES);
  if (n_written < 0 && errno != EINTR && errno != EAGAIN) exit(0);
  return n_written < 0 ? 0 : (size_t)n_written;
}

/* A host that reads nothing more must not keep us for ever: so it is listened to meanwhile. */
void host_send(Host *host, const void *data, size_t n_bytes) {
  const char *at = data, *end = at + n_bytes;
  if (!host->silence_ms) {
    if (!write_all(host->out, data, n_bytes)) exit(0);
    return;
  }
  while (at < end) {
    struct pollfd watched[2] = {{host->out, POLLOUT, 0}, {host->in, host_events(host), 0}};
    int n_ready = poll(watched, 2, host_patience_ms(host));
    if (n_ready < 0) continue;
    if (watched[0].revents) at += write_some(host, at, (size_t)(end - at));
    if (watched[1].revents & POLLIN && !queue_requests(host)) exit(0);
    if (watched[1].revents & ~POLLIN) exit(0);
    if (is_silent(host)) exit(2);
  }
  answer_beats(host);
}
