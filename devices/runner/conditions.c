#include "conditions.h"

#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "throttling.h"

enum { MAX_ZONES = 64 };

static int n_zones; /* up to the last one that there is */
static bool has_clocks;

static const char *system_root = "";

void set_system_root(const char *root) { system_root = root; }

bool full_path(const char *path, char *full, int capacity) {
  return snprintf(full, (size_t)capacity, "%s%s", system_root, path) < capacity;
}

bool is_there(const char *path) {
  char full[512];
  return full_path(path, full, sizeof full) && !access(full, R_OK);
}

bool find_first(const char *pattern, char *path, int capacity) {
  char full[512];
  glob_t found;
  if (!full_path(pattern, full, sizeof full) || glob(full, 0, NULL, &found)) return false;
  int length = snprintf(path, (size_t)capacity, "%s", found.gl_pathv[0] + strlen(system_root));
  globfree(&found);
  return length < capacity;
}

bool read_system_file(const char *path, char *text, int capacity) {
  char full[512];
  int length = 0;
  if (!full_path(path, full, sizeof full)) return false;
  int descriptor = open(full, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  ssize_t got;
  while (length < capacity - 1 &&
         (got = read(descriptor, text + length, (size_t)(capacity - 1 - length))) > 0)
    length += (int)got;
  close(descriptor);
  text[length] = 0;
  return length > 0;
}

double read_number(const char *path) {
  char text[64], *end;
  if (!read_system_file(path, text, sizeof text)) return NAN;
  double value = strtod(text, &end);
  return end == text ? NAN : value;
}

double find_number(const char *text, const char *word, int n_skipped) {
  size_t length = strlen(word);
  const char *line = text;
  while (line && strncmp(line, word, length)) {
    line = strchr(line, '\n');
    if (line) line++;
  }
  if (!line) return NAN;
  const char *at = line + length;
  char *end;
  for (;; n_skipped--) {
    while (*at == ' ') at++;
    double value = *at == '\n' ? NAN : strtod(at, &end);
    if (*at == '\n' || end == at) return NAN;
    if (!n_skipped) return value;
    at = end;
  }
}

static void name_zone(int zone, char path[64]) {
  snprintf(path, 64, "/sys/class/thermal/thermal_zone%d/temp", zone);
}

void find_conditions(void) {
  char path[64], clocks[512];
  n_zones = 0;
  for (int zone = 0; zone < MAX_ZONES; zone++) {
    name_zone(zone, path);
    if (is_there(path)) n_zones = zone + 1;
  }
  has_clocks = find_first("/sys/devices/system/cpu/cpu[0-9]*/cpufreq", clocks, sizeof clocks);
  find_throttle_files();
}

static double hottest_c(void) {
  double hottest = NAN;
  for (int zone = 0; zone < n_zones; zone++) {
    char path[64];
    name_zone(zone, path);
    double millidegrees = read_number(path);
    if (!isnan(millidegrees) && !(millidegrees / 1000 <= hottest)) hottest = millidegrees / 1000;
  }
  return hottest;
}

static void read_governor(int64_t core, char governor[32]) {
  char path[96];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%lld/cpufreq/scaling_governor",
           (long long)core);
  if (!read_system_file(path, governor, 32)) *governor = 0;
  governor[strcspn(governor, "\n")] = 0;
}

Conditions read_conditions(int64_t core) {
  static char stat[1 << 18]; /* the line of interrupts comes first and can be long */
  char path[96];
  Conditions conditions = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, ""};
  if (core < 0) core = 0;
  conditions.load_1min = read_number("/proc/loadavg");
  if (read_system_file("/proc/stat", stat, sizeof stat)) {
    conditions.n_running = find_number(stat, "procs_running ", 0);
    conditions.steal_ticks = find_number(stat, "cpu ", 7);
  }
  if (has_clocks) {
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%lld/cpufreq/scaling_cur_freq",
             (long long)core);
    conditions.clock_mhz = read_number(path) / 1000;
    read_governor(core, conditions.governor);
  }
  conditions.temperature_c = hottest_c();
  conditions.throttle_events = read_throttle_events();
  conditions.throttle_flags = read_throttle_flags();
  return conditions;
}

static void write_number(Buffer *buffer, const char *name, double value) {
  if (isfinite(value)) buffer_print(buffer, "\"%s\":%.15g", name, value);
  else buffer_print(buffer, "\"%s\":null", name);
}

void write_conditions(Buffer *buffer, const Conditions *conditions) {
  buffer_append(buffer, "{", 1);
  write_number(buffer, "load_1min", conditions->load_1min);
  buffer_append(buffer, ",", 1);
  write_number(buffer, "n_running", conditions->n_running);
  buffer_append(buffer, ",", 1);
  write_number(buffer, "steal_ticks", conditions->steal_ticks);
  buffer_append(buffer, ",", 1);
  write_number(buffer, "clock_mhz", conditions->clock_mhz);
  buffer_append(buffer, ",", 1);
  write_number(buffer, "temperature_c", conditions->temperature_c);
  buffer_append(buffer, ",", 1);
  write_number(buffer, "throttle_events", conditions->throttle_events);
  buffer_append(buffer, ",", 1);
  write_number(buffer, "throttle_flags", conditions->throttle_flags);
  buffer_print(buffer, ",\"governor\":");
  if (*conditions->governor) json_write_string(buffer, conditions->governor);
  else buffer_print(buffer, "null");
  buffer_append(buffer, "}", 1);
}
