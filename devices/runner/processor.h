/* The processor and its clock: where a child runs, how it rounds, what time it is. */
#ifndef LATLOOP_PROCESSOR_H
#define LATLOOP_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

/* Results and, where possible, operands below the normal range become zero. */
void flush_subnormals(void);

/* False with errno set when the system refuses this core. */
bool pin_to_core(uint64_t core);

/* Chooses the clock and measures its smallest step, in ns; call before now_ns. */
int64_t start_clock(void);
int64_t now_ns(void);
/* What start_clock chose, for a person to read. */
const char *clock_name(void);

#endif
