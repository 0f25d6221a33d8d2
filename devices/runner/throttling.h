/* How often the board slowed itself down, as /sys tells it. */
#ifndef LATLOOP_THROTTLING_H
#define LATLOOP_THROTTLING_H

/* Looks for files that stay where they are: once, before children are forked. */
void find_throttle_files(void);

/* Times that cores were too hot, since boot; where the board does not count them, times that a quota
 * of processor time of our control group, or the next one above that has a quota, was used up.
 * NaN: not told. */
double read_throttle_events(void);

/* The firmware's flags on a Raspberry Pi, or NaN. */
double read_throttle_flags(void);

#endif
