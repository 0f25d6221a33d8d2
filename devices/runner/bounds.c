#define _GNU_SOURCE
#include "bounds.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILES = 64 };
#define MIB (UINT64_C(1) << 20)
#define MAX_FILE_BYTES MIB
#define LEAST_MARGIN_BYTES (64 * MIB)
#define MOST_MARGIN_BYTES (1024 * MIB)
#define CPU_MARGIN_S UINT64_C(10)

static void limit(int resource, uint64_t value, uint64_t most) {
  struct rlimit old, wanted = {(rlim_t)value, (rlim_t)most};
  if (getrlimit(resource, &old)) return;
  if (old.rlim_max != RLIM_INFINITY && wanted.rlim_max > old.rlim_max)
    wanted.rlim_max = old.rlim_max;
  if (wanted.rlim_cur > wanted.rlim_max) wanted.rlim_cur = wanted.rlim_max;
  setrlimit(resource, &wanted);
}

void limit_child(uint64_t timeout_ms, int n_threads) {
  struct stat words;
  /* What kernels print goes to the runner's stderr, which can be a file that holds words already. */
  uint64_t said_bytes = fstat(STDERR_FILENO, &words) ? 0 : (uint64_t)words.st_size;
  uint64_t cpu_s = (timeout_ms / 1000 + CPU_MARGIN_S) * (uint64_t)n_threads;
  limit(RLIMIT_CORE, 0, 0);
  limit(RLIMIT_NOFILE, MAX_FILES, MAX_FILES);
  limit(RLIMIT_FSIZE, said_bytes + MAX_FILE_BYTES, said_bytes + MAX_FILE_BYTES);
  limit(RLIMIT_CPU, cpu_s, cpu_s + 1); /* the first with a signal that says so, the second for sure */
}

/* Bytes of the address space that are taken, and those of them that are in memory; 0 where the
 * system does not tell. */
static uint64_t mapped_bytes(uint64_t *resident_bytes) {
  unsigned long long n_mapped = 0, n_resident = 0;
  uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
  FILE *file = fopen("/proc/self/statm", "re");
  if (!file) return 0;
  if (fscanf(file, "%llu %llu", &n_mapped, &n_resident) != 2) n_mapped = 0;
  fclose(file);
  *resident_bytes = n_resident * page_bytes;
  return n_mapped * page_bytes;
}

uint64_t limit_memory(uint64_t needed_bytes, uint64_t available_bytes) {
  uint64_t resident = 0, mapped = mapped_bytes(&resident);
  uint64_t margin = available_bytes > needed_bytes ? (available_bytes - needed_bytes) / 2 : 0;
  if (margin < LEAST_MARGIN_BYTES) margin = LEAST_MARGIN_BYTES;
  if (margin > MOST_MARGIN_BYTES) margin = MOST_MARGIN_BYTES;
  if (!mapped || needed_bytes > UINT64_MAX / 2) return 0;
  uint64_t most = mapped + needed_bytes + margin;
  if (most > (rlim_t)-1 / 2) return 0;
  limit(RLIMIT_AS, most, most);
  return resident + needed_bytes + margin;
}
