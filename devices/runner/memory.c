#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conditions.h"

#define PAGE_BYTES UINT64_C(65536) /* the largest of any board */
#define TOUCH_BYTES UINT64_C(4096)  /* the smallest */
#define GUARD_BYTES PAGE_BYTES
#define HUGE_PAGE_BYTES UINT64_C(2097152)

/* SplitMix64 (Steele, Lea, Flood 2014): the finalizer of a Weyl sequence. */
static inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

void fill_uniform(float *out, uint64_t n, uint64_t seed, float scale) {
  uint64_t state = mix(seed + UINT64_C(0x9E3779B97F4A7C15));
  for (uint64_t i = 0; i < n; i++) {
    state += UINT64_C(0x9E3779B97F4A7C15);
    /* 24 bits: every step up to the product is exact in float32. */
    out[i] = ((float)(uint32_t)(mix(state) >> 40) * 0x1p-23f - 1.0f) * scale;
  }
}

void *memory_tensor(const Memory *memory, const TensorPlan *tensor) {
  return memory->start[tensor->region] + tensor->offset_bytes;
}

uint64_t available_bytes(void) {
  static char text[4096];
  if (!read_system_file("/proc/meminfo", text, sizeof text)) return UINT64_MAX;
  const char *line = strstr(text, "MemAvailable:");
  return line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) * 1024 : UINT64_MAX;
}

static uint64_t round_up(uint64_t n_bytes, uint64_t unit) { return (n_bytes + unit - 1) / unit * unit; }

/* Bytes of both regions, each with whole pages of its own, in whole huge pages. */
static uint64_t used_bytes(const Workload *workload) {
  uint64_t n_bytes = 0;
  for (int region = 0; region < N_REGIONS; region++)
    n_bytes += round_up(workload->region_bytes[region], PAGE_BYTES);
  return round_up(n_bytes, HUGE_PAGE_BYTES);
}

uint64_t memory_mapped_bytes(const Workload *workload) {
  return used_bytes(workload) + HUGE_PAGE_BYTES + GUARD_BYTES;
}

/* Room for both regions, on a huge page's boundary, with pages that fault behind it. Huge pages,
 * where the system has them, take away the chance in which physical pages share cache sets, and
 * most of the time to touch: a kernel on 200 KB, visited 30 times on a busy EPYC, had its 90th
 * percentile 27 % over its 10th without them and 2 % with them. They are given only to whole ones,
 * hence the rounding; the system clears each before it gives it, hence one room for both regions. */
static char *map_room(const Workload *workload) {
  uint64_t n_used = used_bytes(workload), n_mapped = memory_mapped_bytes(workload);
  if (n_mapped > SIZE_MAX / 2) return NULL;
  char *start = mmap(NULL, (size_t)n_mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return NULL;
  start += HUGE_PAGE_BYTES - (uintptr_t)start % HUGE_PAGE_BYTES;
  if (!n_used) return start;
  if (mprotect(start, (size_t)n_used, PROT_READ | PROT_WRITE)) return NULL;
  madvise(start, (size_t)n_used, MADV_HUGEPAGE);
  return start;
}

/* Has every page of a region there before anything is timed; they hold zeros. */
static void touch(volatile char *start, uint64_t n_bytes) {
  for (uint64_t at = 0; at < n_bytes; at += TOUCH_BYTES) start[at] = 0;
}

/* Weights from a file are copied, so that they lie in the same kind of pages as made ones. */
static bool load_weights(const char *path, char *start, uint64_t n_bytes, char *detail) {
  struct stat status;
  uint64_t n_read = 0;
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 || fstat(descriptor, &status)) {
    snprintf(detail, MAX_DETAIL, "cannot open weights %.400s: %s", path, strerror(errno));
    return false;
  }
  while (n_read < n_bytes) {
    uint64_t rest = n_bytes - n_read;
    ssize_t got = read(descriptor, start + n_read, rest > 1 << 30 ? 1 << 30 : (size_t)rest);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    n_read += (uint64_t)got;
  }
  close(descriptor);
  if (n_read == n_bytes) return true;
  snprintf(detail, MAX_DETAIL, "weights %.400s: got %llu of %llu bytes", path,
           (unsigned long long)n_read, (unsigned long long)n_bytes);
  return false;
}

MemoryResult memory_prepare(const Workload *workload, Memory *memory, char *detail) {
  uint64_t wanted = workload->region_bytes[REGION_ARENA] + workload->region_bytes[REGION_WEIGHTS];
  uint64_t available = available_bytes();
  if (wanted > available) {
    snprintf(detail, MAX_DETAIL, "the workload needs %llu bytes, the board has %llu available",
             (unsigned long long)wanted, (unsigned long long)available);
    return MEMORY_FULL;
  }
  char *start = map_room(workload);
  if (!start) {
    snprintf(detail, MAX_DETAIL, "cannot map %llu bytes: %s",
             (unsigned long long)memory_mapped_bytes(workload), strerror(errno));
    return MEMORY_FULL;
  }
  for (int region = 0; region < N_REGIONS; region++) {
    memory->start[region] = start;
    touch(start, workload->region_bytes[region]);
    start += round_up(workload->region_bytes[region], PAGE_BYTES);
  }
  if (workload->weights_file &&
      !load_weights(workload->weights_file, memory->start[REGION_WEIGHTS],
                    workload->region_bytes[REGION_WEIGHTS], detail))
    return MEMORY_NO_FILE;
  for (uint64_t i = 0; i < workload->n_tensors; i++) {
    const TensorPlan *tensor = &workload->tensors[i];
    if (tensor->has_fill)
      fill_uniform(memory_tensor(memory, tensor), tensor->n_elements, tensor->seed, tensor->scale);
  }
  return MEMORY_READY;
}
