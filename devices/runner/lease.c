#define _GNU_SOURCE
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "holders.h"
#include "json.h"
#include "lease_log.h"
#include "processor.h"

enum { STEAL_MS = 5000, STEAL_STEP_NS = 20000000, N_READS = 20, COUNT_BYTES = 21 };
/* More is damage, and would not survive a JSON reader that knows floating point alone. */
#define MAX_GENERATION (UINT64_C(1) << 53)

/* Beside the record the generation stands in a file of its own: were it known from the record alone,
 * whoever damages that would start the count anew, and old answers could pass for new ones. */
static const char count_suffix[] = ".generation";

static LeaseResult fail(char *detail, const char *what, const char *path) {
  LeaseResult result = errno == ENOSPC || errno == EDQUOT ? LEASE_DISK_FULL : LEASE_FAILED;
  snprintf(detail, MAX_LEASE_DETAIL, "cannot %s %.400s: %s", what, path, strerror(errno));
  return result;
}

static int open_shared(const char *path) {
  return open(path, O_RDWR | O_CREAT, 0664); /* inherited on purpose: see Lease.descriptor */
}

/* Reads up to n_bytes, ends them with a NUL and returns how many they are. */
static size_t read_text(int descriptor, char *text, size_t n_bytes) {
  ssize_t got = pread(descriptor, text, n_bytes, 0);
  if (got < 0) got = 0;
  text[got] = 0;
  return (size_t)got;
}

/* The generation that a record tells, 0 when it is damaged. */
static uint64_t record_generation(const char *record) {
  char text[LEASE_RECORD_BYTES + 1];
  uint64_t generation = 0;
  strcpy(text, record);
  JsonNode *node = json_parse(text, strlen(text));
  bool is_told = json_u64(json_get(node, "generation"), &generation);
  free(node);
  return is_told && generation <= MAX_GENERATION ? generation : 0;
}

static uint64_t counted_generation(const char *text) {
  char *end;
  errno = 0;
  uint64_t count = strtoull(text, &end, 10);
  return errno || *end != '\n' || *text == '-' || count > MAX_GENERATION ? 0 : count;
}

static void format_utc(char text[32], int64_t later_ms) {
  struct timespec now;
  struct tm parts;
  clock_gettime(CLOCK_REALTIME, &now);
  time_t seconds = now.tv_sec + (time_t)(later_ms / 1000);
  if (!gmtime_r(&seconds, &parts) || !strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &parts))
    strcpy(text, "unknown");
}

static void write_time(Buffer *json, const char *name, const char *time) {
  if (time) buffer_print(json, ",\"%s\":\"%s\"", name, time);
  else buffer_print(json, ",\"%s\":null", name);
}

/* One line of constant length, written in place: it needs no room that the disk might lack, and as
 * it lies within one page a kill leaves the old or the new one, whole. */
static bool write_record(Lease *lease, const char *released) {
  Buffer json = {0};
  char boot_id[64], expires[32];
  read_boot_id(boot_id);
  format_utc(expires, 2 * lease->silence_ms);
  buffer_print(&json, "{\"generation\":%llu,\"holder\":", (unsigned long long)lease->generation);
  json_write_string(&json, lease->holder);
  buffer_print(&json, ",\"host\":");
  json_write_string(&json, lease->host);
  buffer_print(&json, ",\"pid\":%ld,\"started\":%llu,\"boot_id\":", (long)getpid(),
               (unsigned long long)process_start(getpid()));
  json_write_string(&json, boot_id);
  write_time(&json, "acquired", lease->acquired);
  write_time(&json, "expires", lease->silence_ms ? expires : NULL);
  write_time(&json, "released", released);
  buffer_print(&json, "}%*s", (int)(LEASE_RECORD_BYTES - json.length - 1), "\n");
  memcpy(lease->record, json.data, LEASE_RECORD_BYTES);
  lease->record[LEASE_RECORD_BYTES] = 0;
  buffer_free(&json);
  lease->moved_ms = clock_ms();
  return pwrite(lease->descriptor, lease->record, LEASE_RECORD_BYTES, 0) == LEASE_RECORD_BYTES;
}

static bool write_count(int descriptor, uint64_t generation) {
  char text[COUNT_BYTES + 1];
  snprintf(text, sizeof text, "%020llu\n", (unsigned long long)generation);
  return pwrite(descriptor, text, COUNT_BYTES, 0) == COUNT_BYTES && !fdatasync(descriptor);
}

static LeaseResult refuse_damaged(const Lease *lease, char *detail) {
  snprintf(detail, MAX_LEASE_DETAIL,
           "%.400s does not tell how many sessions this board has had, and so answers of an old one "
           "could pass for new: when none is running, remove it and %.400s%s",
           lease->path, lease->path, count_suffix);
  return LEASE_FAILED;
}

/* Raises the generation over what either file tells; both are on the disk before this returns. */
static LeaseResult begin_session(Lease *lease, int count_descriptor, char *detail) {
  char record[LEASE_RECORD_BYTES + 1], count[COUNT_BYTES + 1];
  size_t n_bytes = read_text(lease->descriptor, record, LEASE_RECORD_BYTES) +
                   read_text(count_descriptor, count, COUNT_BYTES);
  uint64_t recorded = record_generation(record), counted = counted_generation(count);
  if (!recorded && !counted && n_bytes) return refuse_damaged(lease, detail);
  lease->generation = (recorded > counted ? recorded : counted) + 1;
  format_utc(lease->acquired, 0);
  if (!write_count(count_descriptor, lease->generation) || !write_record(lease, NULL) ||
      ftruncate(lease->descriptor, LEASE_RECORD_BYTES) || fdatasync(lease->descriptor))
    return fail(detail, "write", lease->path);
  return LEASE_TAKEN;
}

static LeaseResult count_session(Lease *lease, char *detail) {
  char path[4096];
  snprintf(path, sizeof path, "%s%s", lease->path, count_suffix);
  int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0664);
  if (descriptor < 0) return fail(detail, "open", path);
  LeaseResult result = begin_session(lease, descriptor, detail);
  close(descriptor);
  return result;
}

/* Whether the path still leads to the file that is open: else a lock on it locks nobody out. */
static bool is_in_place(const Lease *lease) {
  struct stat open_file, named;
  return !fstat(lease->descriptor, &open_file) && !stat(lease->path, &named) &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

static LeaseResult try_lock(Lease *lease, char *detail) {
  while (flock(lease->descriptor, LOCK_EX | LOCK_NB)) {
    if (errno == EWOULDBLOCK) return LEASE_HELD;
    if (errno == EINTR) continue;
    snprintf(detail, MAX_LEASE_DETAIL,
             "cannot lock %.400s: %s; choose a folder on a disk of the board itself", lease->path,
             strerror(errno));
    return LEASE_FAILED;
  }
  return LEASE_TAKEN;
}

/* What the holder wrote; it may be writing just now. */
static void read_holder(Lease *lease) {
  struct timespec pause = {0, 1000000};
  for (int i = 0; i < N_READS; i++) {
    read_text(lease->descriptor, lease->record, LEASE_RECORD_BYTES);
    if (record_generation(lease->record)) {
      lease->record[strcspn(lease->record, "\n")] = 0;
      return;
    }
    nanosleep(&pause, NULL);
  }
  *lease->record = 0;
}

/* Ends the holder, every process of it, and waits for the lock. */
static LeaseResult steal(Lease *lease, char *detail) {
  struct timespec pause = {0, STEAL_STEP_NS};
  char now[32];
  int refused = 0;
  LeaseResult result;
  read_holder(lease);
  format_utc(now, 0);
  if (!log_steal(lease, now)) return fail(detail, "write the audit line beside", lease->path);
  for (int64_t end_ms = clock_ms() + STEAL_MS; clock_ms() < end_ms; nanosleep(&pause, NULL)) {
    refused = end_holders(lease->descriptor, lease->record);
    result = try_lock(lease, detail);
    if (result != LEASE_HELD) return result;
  }
  if (refused)
    snprintf(detail, MAX_LEASE_DETAIL, "process %d holds %.400s and belongs to another user",
             refused, lease->path);
  else
    snprintf(detail, MAX_LEASE_DETAIL,
             "the holder of %.400s was not found in /proc, or does not end: restart the board",
             lease->path);
  return LEASE_FAILED;
}

LeaseResult lease_take(Lease *lease, char *detail) {
  LeaseResult result = LEASE_FAILED;
  for (bool is_placed = false; !is_placed;) {
    lease->descriptor = open_shared(lease->path);
    if (lease->descriptor < 0) return fail(detail, "open the lease", lease->path);
    result = try_lock(lease, detail);
    if (result == LEASE_HELD && lease->steals) result = steal(lease, detail);
    is_placed = result != LEASE_TAKEN || is_in_place(lease);
    if (!is_placed) close(lease->descriptor); /* replaced between opening and locking */
  }
  if (result == LEASE_TAKEN) result = count_session(lease, detail);
  else if (result == LEASE_HELD) read_holder(lease);
  if (result != LEASE_TAKEN) close(lease->descriptor);
  return result;
}

static bool is_unchanged(const Lease *lease) {
  char record[LEASE_RECORD_BYTES + 1];
  read_text(lease->descriptor, record, LEASE_RECORD_BYTES);
  return is_in_place(lease) && !strcmp(record, lease->record);
}

bool lease_is_ours(const Lease *lease) {
  if (is_unchanged(lease)) return true;
  fprintf(stderr, "latloop runner: %s was given to another session or changed: generation %llu ends\n",
          lease->path, (unsigned long long)lease->generation);
  return false;
}

bool lease_move_on(Lease *lease) {
  int64_t wait_ms = lease->silence_ms > 1000 ? lease->silence_ms : 1000;
  if (clock_ms() - lease->moved_ms < wait_ms) return true;
  if (!lease_is_ours(lease)) return false;
  if (write_record(lease, NULL)) return true;
  fprintf(stderr, "latloop runner: cannot write %s: %s\n", lease->path, strerror(errno));
  return false;
}

void lease_release(Lease *lease) {
  char now[32];
  format_utc(now, 0);
  if (is_unchanged(lease)) write_record(lease, now);
}
