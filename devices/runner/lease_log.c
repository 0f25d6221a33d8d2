#define _GNU_SOURCE
#include "lease_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"

enum { MAX_LOG_BYTES = 32768 }; /* and as much again of older lines beside it */

static void write_named(Buffer *json, const char *name, const char *text) {
  buffer_print(json, ",\"%s\":", name);
  json_write_string(json, text ? text : "unknown");
}

static void write_line(Buffer *json, const Lease *lease, const char *now) {
  char text[LEASE_RECORD_BYTES + 1];
  uint64_t generation = 0;
  strcpy(text, lease->record);
  JsonNode *old = json_parse(text, strlen(text));
  json_u64(json_get(old, "generation"), &generation);
  buffer_print(json, "{\"time\":\"%s\",\"event\":\"steal\"", now);
  write_named(json, "holder", lease->holder);
  write_named(json, "host", lease->host);
  write_named(json, "from_holder", json_string(json_get(old, "holder")));
  write_named(json, "from_host", json_string(json_get(old, "host")));
  buffer_print(json, ",\"from_generation\":%llu}\n", (unsigned long long)generation);
  free(old);
}

/* One write to the end of the file: whole lines, whoever else writes there. */
static bool append(const char *path, const Buffer *line) {
  int descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0664);
  if (descriptor < 0) return false;
  bool is_written = write(descriptor, line->data, line->length) == (ssize_t)line->length &&
                    !fdatasync(descriptor);
  int error = errno;
  close(descriptor);
  errno = error;
  return is_written;
}

bool log_steal(const Lease *lease, const char *now) {
  char path[4096], older[4096];
  struct stat status;
  Buffer line = {0};
  snprintf(path, sizeof path, "%s.log", lease->path);
  snprintf(older, sizeof older, "%s.log.1", lease->path);
  if (!stat(path, &status) && status.st_size > MAX_LOG_BYTES) rename(path, older);
  write_line(&line, lease, now);
  bool is_written = append(path, &line);
  buffer_free(&line);
  return is_written;
}
