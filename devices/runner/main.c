/* The loop: reads requests from stdin, answers each on stdout, ends when the host is gone. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "conditions.h"
#include "frames.h"
#include "json.h"
#include "processor.h"
#include "requests.h"

enum { PROTOCOL_VERSION = 1 };

typedef struct {
  int64_t tick_ns;
  volatile int64_t *progress;
} Runner;

static void write_description(const Runner *runner, uint64_t id, Buffer *json) {
  char boot_id[64] = "";
  read_system_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
  boot_id[strcspn(boot_id, "\n")] = 0;
  buffer_print(json, "{\"id\":%llu,\"protocol\":%d,\"tick_ns\":%lld,\"clock\":\"%s\"",
               (unsigned long long)id, PROTOCOL_VERSION, (long long)runner->tick_ns, clock_name());
  buffer_print(json, ",\"page_bytes\":%ld,\"pid\":%ld,\"boot_id\":", sysconf(_SC_PAGESIZE),
               (long)getpid());
  json_write_string(json, boot_id);
  buffer_print(json, ",\"kernels\":[");
  for (size_t i = 0; i < latloop_n_kernels; i++) {
    if (i) buffer_append(json, ",", 1);
    json_write_string(json, latloop_kernels[i].name);
  }
  buffer_print(json, "]}");
}

/* Answers a request whose child gave no answer. */
static void answer_failure(const Runner *runner, const Request *request, ChildEnd end,
                           const Buffer *sentence) {
  static const char *const reasons[] = {[CHILD_CRASHED] = "crash",
                                        [CHILD_TIMED_OUT] = "timeout",
                                        [CHILD_OUT_OF_MEMORY] = "out_of_memory"};
  Buffer json = {0}, detail = {0};
  int64_t call = *runner->progress;
  buffer_append(&detail, sentence->data, sentence->length);
  if (call >= 0 && (uint64_t)call < request->workload.n_calls)
    buffer_print(&detail, " in call %lld, kernel %s", (long long)call,
                 request->workload.calls[call].kernel->name);
  buffer_append(&detail, "", 1);
  write_failure(&json, request->id, reasons[end], detail.data);
  if (!frame_write(STDOUT_FILENO, &json, NULL, 0)) exit(0);
  buffer_free(&json);
  buffer_free(&detail);
}

static void answer_in_child(const Runner *runner, const Request *request) {
  Buffer answer = {0};
  ChildEnd end = run_in_child(work_on_request, request, request->timeout_ms, STDIN_FILENO,
                              runner->progress, &answer);
  if (end == CHILD_HOST_GONE) exit(0);
  if (end != CHILD_ANSWERED) answer_failure(runner, request, end, &answer);
  else if (!write_all(STDOUT_FILENO, answer.data, answer.length)) exit(0);
  buffer_free(&answer);
}

static void answer_json(Buffer *json) {
  if (!frame_write(STDOUT_FILENO, json, NULL, 0)) exit(0);
  buffer_free(json);
}

/* False when the host asks to stop. */
static bool answer(const Runner *runner, const Frame *frame, const JsonNode *node) {
  char detail[MAX_DETAIL] = "";
  Buffer json = {0};
  Request request = {.tick_ns = runner->tick_ns};
  const char *op = json_string(json_get(node, "op"));
  if (!op || !json_u64(json_get(node, "id"), &request.id))
    die("malformed request: it needs an id (whole, >= 0) and an op");
  bool is_work = !strcmp(op, "time") || !strcmp(op, "run");
  if (!strcmp(op, "describe")) {
    write_description(runner, request.id, &json);
  } else if (!strcmp(op, "stop")) {
    buffer_print(&json, "{\"id\":%llu}", (unsigned long long)request.id);
  } else if (!is_work) {
    snprintf(detail, sizeof detail, "op must be describe, time, run or stop, got %.100s", op);
    write_failure(&json, request.id, "bad_request", detail);
  } else if (!request_read(node, frame, &request, detail)) {
    write_failure(&json, request.id, "bad_request", detail);
  } else {
    answer_in_child(runner, &request);
  }
  request_free(&request);
  if (json.length) answer_json(&json);
  return strcmp(op, "stop") != 0;
}

int main(int n_arguments, char **arguments) {
  Runner runner;
  Frame frame = {0};
  bool goes_on = true;
  if (n_arguments == 3 && !strcmp(arguments[1], "--root")) set_system_root(arguments[2]);
  else if (n_arguments != 1) die("usage: runner [--root FOLDER]");
  signal(SIGPIPE, SIG_IGN);
  runner.tick_ns = start_clock();
  runner.progress = share_progress();
  while (goes_on && frame_read(STDIN_FILENO, &frame)) {
    JsonNode *node = json_parse(frame.json, frame.json_bytes);
    if (!node) die("malformed frame: %u bytes that are not JSON", (unsigned)frame.json_bytes);
    goes_on = answer(&runner, &frame, node);
    free(node);
    frame_free(&frame);
  }
  return 0;
}
