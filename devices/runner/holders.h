/* The processes that hold a lock, found in /proc and ended. */
#ifndef LATLOOP_HOLDERS_H
#define LATLOOP_HOLDERS_H

#include <stdint.h>
#include <sys/types.h>

/* When a process started, in ticks since boot, or 0: with its number it names a process for good. */
uint64_t process_start(pid_t pid);

/* This board's boot, or "". */
void read_boot_id(char boot_id[64]);

/* Kills every process that holds a lock on the open file, and the one that the record (JSON) names
 * if it is the same that wrote it. Returns the number of one that we may not kill, or 0. */
int end_holders(int descriptor, const char *record);

#endif
