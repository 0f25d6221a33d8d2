/* The state of the board around a timing, from /proc and /sys. */
#ifndef LATLOOP_CONDITIONS_H
#define LATLOOP_CONDITIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

/* Where /proc and /sys are found: "" for this machine. */
void set_system_root(const char *root);

/* Reads the first bytes of a file under the root as text; false when there is none. */
bool read_system_file(const char *path, char *text, int capacity);

typedef struct {
  double load_1min;      /* NaN: not told, and so below */
  double n_running;
  double steal_ticks;
  double clock_mhz;
  double temperature_c;
} Conditions;

/* core < 0: the clock of core 0. */
Conditions read_conditions(int64_t core);
void write_conditions(Buffer *buffer, const Conditions *conditions);

#endif
