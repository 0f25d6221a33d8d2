#define _GNU_SOURCE
#include "holders.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conditions.h"
#include "json.h"

enum { START_FIELD = 20 }; /* of /proc/PID/stat, counted from the state, which is the first */

/* Processes are real, whatever root the board's state is read from. */
static bool read_file(const char *path, char *text, size_t capacity) {
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = descriptor < 0 ? -1 : read(descriptor, text, capacity - 1);
  if (descriptor >= 0) close(descriptor);
  text[got < 0 ? 0 : got] = 0;
  return got > 0;
}

uint64_t process_start(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  if (!read_file(path, text, sizeof text)) return 0;
  const char *field = strrchr(text, ')'); /* the name before it may hold anything */
  for (int i = 0; field && i < START_FIELD; i++) field = strchr(field + 1, ' ');
  return field ? strtoull(field, NULL, 10) : 0;
}

void read_boot_id(char boot_id[64]) {
  if (!read_system_file("/proc/sys/kernel/random/boot_id", boot_id, 64)) *boot_id = 0;
  boot_id[strcspn(boot_id, "\n")] = 0;
}

static bool is_locked_through(const char *pid, const char *descriptor) {
  char path[640], text[2048];
  snprintf(path, sizeof path, "/proc/%s/fdinfo/%s", pid, descriptor);
  return read_file(path, text, sizeof text) && strstr(text, "\nlock:");
}

/* Whether a process holds a lock on the file, by itself or inherited. */
static bool holds(const char *pid, const struct stat *file) {
  char path[640];
  bool found = false;
  struct stat open_file;
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR *folder = opendir(path);
  for (struct dirent *each; folder && !found && (each = readdir(folder));) {
    snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, each->d_name);
    found = isdigit((unsigned char)*each->d_name) && !stat(path, &open_file) &&
            open_file.st_dev == file->st_dev && open_file.st_ino == file->st_ino &&
            is_locked_through(pid, each->d_name);
  }
  if (folder) closedir(folder);
  return found;
}

/* The process that the record names, 0 if that is gone: its number may have a new owner. */
static pid_t recorded_holder(const char *record) {
  char text[2049], boot_id[64];
  uint64_t pid = 0, started = 0;
  snprintf(text, sizeof text, "%s", record);
  JsonNode *node = json_parse(text, strlen(text));
  const char *recorded_boot = json_string(json_get(node, "boot_id"));
  read_boot_id(boot_id);
  bool is_same = recorded_boot && !strcmp(recorded_boot, boot_id) &&
                 json_u64(json_get(node, "pid"), &pid) && pid > 1 && pid <= INT32_MAX &&
                 json_u64(json_get(node, "started"), &started) && started &&
                 process_start((pid_t)pid) == started;
  free(node);
  return is_same ? (pid_t)pid : 0;
}

int end_holders(int descriptor, const char *record) {
  struct stat file;
  int refused = 0;
  pid_t recorded = recorded_holder(record);
  DIR *processes = opendir("/proc");
  if (recorded && kill(recorded, SIGKILL) && errno == EPERM) refused = recorded;
  if (fstat(descriptor, &file)) return refused;
  for (struct dirent *each; processes && (each = readdir(processes));) {
    pid_t pid = (pid_t)strtol(each->d_name, NULL, 10);
    if (!isdigit((unsigned char)*each->d_name) || pid == getpid()) continue;
    if (holds(each->d_name, &file) && kill(pid, SIGKILL) && errno == EPERM) refused = pid;
  }
  if (processes) closedir(processes);
  return refused;
}
