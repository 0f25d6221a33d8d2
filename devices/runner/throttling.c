#define _GNU_SOURCE
#include "throttling.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conditions.h"

enum { MAX_CORES = 1024, MAX_PATH = 400 };

static char flags_path[512];
static bool has_old_groups; /* processor time is in a hierarchy of its own, of version 1 */
static int n_counting_cores; /* the first ones, which count how often they were too hot */

static double core_count(int core) {
  char path[96];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/thermal_throttle/core_throttle_count",
           core);
  return read_number(path);
}

void find_throttle_files(void) {
  has_old_groups = is_there("/sys/fs/cgroup/cpu");
  n_counting_cores = 0;
  while (n_counting_cores < MAX_CORES && !isnan(core_count(n_counting_cores))) n_counting_cores++;
  if (!find_first("/sys/devices/platform/soc*/soc*:firmware/get_throttled", flags_path,
                  sizeof flags_path))
    *flags_path = 0;
}

double read_throttle_flags(void) {
  char text[64], *end;
  if (!*flags_path || !read_system_file(flags_path, text, sizeof text)) return NAN;
  unsigned long flags = strtoul(text, &end, 16);
  return end == text ? NAN : (double)flags;
}

/* The group's path in the hierarchy whose line in /proc/self/cgroup has this middle, "" when there
 * is none: "4:cpu,cpuacct:/path", and "0::/path" for the one hierarchy of version 2. */
static void find_group(const char *groups, bool is_unified, char group[MAX_PATH]) {
  *group = 0;
  for (const char *line = groups; *line; line += strcspn(line, "\n"), line += *line == '\n') {
    const char *names = line + strcspn(line, ":\n");
    const char *path = *names == ':' ? names + 1 + strcspn(names + 1, ":\n") : names;
    char between[128];
    if (*path != ':') continue;
    snprintf(between, sizeof between, ",%.*s,", (int)(path - names - 1), names + 1);
    if (is_unified ? !strcmp(between, ",,") : strstr(between, ",cpu,") != NULL) {
      snprintf(group, MAX_PATH, "%.*s", (int)strcspn(path + 1, "\n"), path + 1);
      return;
    }
  }
}

/* Times that the quota of a group, or of the next above it that has one, was used up. */
static double group_count(const char *mount, const char *quota_file, char group[MAX_PATH]) {
  char path[MAX_PATH + 64], text[1024];
  for (;;) {
    snprintf(path, sizeof path, "%s%s/%s", mount, group, quota_file);
    double quota = read_number(path); /* "max" and -1 are none */
    snprintf(path, sizeof path, "%s%s/cpu.stat", mount, group);
    if (quota > 0 && read_system_file(path, text, sizeof text))
      return find_number(text, "nr_throttled ", 0);
    char *last = strrchr(group, '/');
    if (!last) return NAN;
    *last = 0;
  }
}

static double quota_count(void) {
  char groups[4096], group[MAX_PATH];
  if (!read_system_file("/proc/self/cgroup", groups, sizeof groups)) return NAN;
  find_group(groups, !has_old_groups, group);
  if (!*group) return NAN;
  return has_old_groups ? group_count("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", group)
                        : group_count("/sys/fs/cgroup", "cpu.max", group);
}

double read_throttle_events(void) {
  double sum = 0;
  for (int core = 0; core < n_counting_cores; core++) {
    double count = core_count(core);
    if (!isnan(count)) sum += count;
  }
  return n_counting_cores ? sum : quota_count();
}
