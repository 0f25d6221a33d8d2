/* The state of the board around a timing, from /proc and /sys. */
#ifndef LATLOOP_CONDITIONS_H
#define LATLOOP_CONDITIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

/* Where /proc and /sys are found: "" for this machine. */
void set_system_root(const char *root);

/* Whether there is something under the root that can be read. */
bool is_there(const char *path);

/* The first path under the root that a pattern fits, as `read_system_file` takes it. */
bool find_first(const char *pattern, char *path, int capacity);

/* Reads the first bytes of a file under the root as text; false when there is none. */
bool read_system_file(const char *path, char *text, int capacity);

/* The number that such a file begins with, or NaN. */
double read_number(const char *path);

/* The number that stands after a word at the start of a line, n_skipped numbers later, or NaN. */
double find_number(const char *text, const char *word, int n_skipped);

/* Where a path under the root really is; false when it is too long. */
bool full_path(const char *path, char *full, int capacity);

typedef struct {
  double load_1min;      /* NaN: not told, and so below */
  double n_running;
  double steal_ticks;
  double clock_mhz;
  double temperature_c;
  double throttle_events; /* hot cores, or else a used-up quota of processor time, since boot */
  double throttle_flags;  /* a Raspberry Pi's own word */
  char governor[32];      /* "": not told */
} Conditions;

/* Looks once for what the board has to tell, before children are forked: a visit shall not try what
 * is not there. */
void find_conditions(void);

/* core < 0: the clock of core 0. */
Conditions read_conditions(int64_t core);
void write_conditions(Buffer *buffer, const Conditions *conditions);

#endif
