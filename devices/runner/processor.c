#define _GNU_SOURCE
#include "processor.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { N_TICK_TRIES = 2000 };

static clockid_t chosen_clock = CLOCK_MONOTONIC;

void flush_subnormals(void) {
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040); /* FTZ, DAZ */
#elif defined(__aarch64__)
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  control |= UINT64_C(1) << 24; /* FZ */
  __asm__ volatile("msr fpcr, %0" : : "r"(control));
#elif defined(__arm__) && defined(__ARM_FP)
  uint32_t control;
  __asm__ volatile("vmrs %0, fpscr" : "=r"(control));
  control |= 1u << 24; /* FZ; NEON flushes always */
  __asm__ volatile("vmsr fpscr, %0" : : "r"(control));
#endif
  /* RISC-V has no such mode, and its cores take no longer for subnormals by design. */
}

bool pin_to_core(uint64_t core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (core >= CPU_SETSIZE) {
    errno = EINVAL;
    return false;
  }
  CPU_SET(core, &cores);
  return !sched_setaffinity(0, sizeof cores, &cores);
}

static int64_t read_clock(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Smallest step seen between two reads that differ. */
static int64_t measure_tick_ns(clockid_t clock) {
  int64_t smallest = INT64_MAX;
  for (int i = 0; i < N_TICK_TRIES; i++) {
    int64_t start = read_clock(clock), now = start;
    while (now == start) now = read_clock(clock);
    if (now - start < smallest) smallest = now - start;
  }
  return smallest;
}

int64_t start_clock(void) {
  struct timespec unused;
  int64_t tick = measure_tick_ns(CLOCK_MONOTONIC);
  if (clock_gettime(CLOCK_MONOTONIC_RAW, &unused)) return tick;
  /* The raw clock is not bent by NTP, but some kernels answer it with a slow system call. */
  int64_t raw_tick = measure_tick_ns(CLOCK_MONOTONIC_RAW);
  if (raw_tick > 2 * tick) return tick;
  chosen_clock = CLOCK_MONOTONIC_RAW;
  return raw_tick;
}

int64_t now_ns(void) { return read_clock(chosen_clock); }

int64_t clock_ms(void) { return read_clock(CLOCK_MONOTONIC) / 1000000; }

const char *clock_name(void) {
  return chosen_clock == CLOCK_MONOTONIC_RAW ? "CLOCK_MONOTONIC_RAW" : "CLOCK_MONOTONIC";
}
