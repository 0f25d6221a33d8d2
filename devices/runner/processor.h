/* The processor and its clock: where a child runs, how it rounds, what time it is. */
#ifndef LATLOOP_PROCESSOR_H
#define LATLOOP_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

/* Results and, where possible, operands below the normal range become zero. */
void flush_subnormals(void);

/* Pins the calling thread; false with errno set when the system refuses this core. */
bool pin_to_core(uint64_t core);

/* What a loop does that waits for another core. */
static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#elif defined(__riscv)
  __asm__ volatile(".insn i 0x0F, 0, x0, x0, 0x010"); /* pause; a fence of nothing to old cores */
#endif
}

/* Chooses the clock and measures its smallest step, in ns; call before now_ns. */
int64_t start_clock(void);
int64_t now_ns(void);
/* For deadlines: goes on whatever is done to the time of day. */
int64_t clock_ms(void);
/* What start_clock chose, for a person to read. */
const char *clock_name(void);

#endif
