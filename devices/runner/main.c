/* The loop: reads requests from stdin, answers each on stdout, ends when the host is gone. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "conditions.h"
#include "host.h"
#include "json.h"
#include "processor.h"
#include "requests.h"

enum { PROTOCOL_VERSION = 2 };

typedef struct {
  int64_t tick_ns;
  volatile ChildNotes *notes;
  Host host;
  Lease lease; /* without a path there is none */
  LeaseResult lease_result;
  char lease_detail[MAX_LEASE_DETAIL];
} Runner;

static Runner runner;
static pid_t runner_pid;

static void write_description(AnswerTag tag, Buffer *json) {
  char boot_id[64] = "";
  read_system_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
  boot_id[strcspn(boot_id, "\n")] = 0;
  write_tag(json, tag);
  buffer_print(json, ",\"protocol\":%d,\"tick_ns\":%lld,\"clock\":\"%s\"", PROTOCOL_VERSION,
               (long long)runner.tick_ns, clock_name());
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

/* Says why there is no lease, and who has it. */
static void write_refusal(AnswerTag tag, Buffer *json) {
  static const char *const reasons[] = {[LEASE_HELD] = "lease_held",
                                        [LEASE_DISK_FULL] = "device_full",
                                        [LEASE_FAILED] = "lease_failed"};
  bool is_held = runner.lease_result == LEASE_HELD;
  const char *detail = is_held ? "another session holds the board's lease" : runner.lease_detail;
  write_failure(json, tag, reasons[runner.lease_result], detail);
  buffer_print(json, ",\"lease\":%s}", is_held && *runner.lease.record ? runner.lease.record : "null");
}

/* An answer counts only if the board is still ours when it leaves. */
static void send_answer(const void *data, size_t n_bytes) {
  if (runner.lease.generation && !lease_is_ours(&runner.lease)) exit(2);
  host_send(&runner.host, data, n_bytes);
}

static void send_json(Buffer *json) {
  char header[FRAME_HEADER_BYTES];
  Buffer frame = {0};
  frame_pack_header(header, (uint32_t)json->length, 0);
  buffer_append(&frame, header, sizeof header);
  buffer_append(&frame, json->data, json->length);
  send_answer(frame.data, frame.length);
  buffer_free(&frame);
  buffer_free(json);
}

/* Answers a request whose child gave no answer. */
static void answer_failure(const Request *request, ChildEnd end, const Buffer *sentence) {
  static const char *const reasons[] = {[CHILD_CRASHED] = "crash",
                                        [CHILD_TIMED_OUT] = "timeout",
                                        [CHILD_OUT_OF_MEMORY] = "out_of_memory"};
  Buffer json = {0}, detail = {0};
  int64_t call = runner.notes->call;
  buffer_append(&detail, sentence->data, sentence->length);
  if (call >= 0 && (uint64_t)call < request->workload.n_calls)
    buffer_print(&detail, " in call %lld, kernel %s", (long long)call,
                 request->workload.calls[call].kernel->name);
  buffer_append(&detail, "", 1);
  write_failure(&json, request->tag, reasons[end], detail.data);
  buffer_print(&json, "}");
  send_json(&json);
  buffer_free(&detail);
}

static void answer_in_child(const Request *request) {
  Buffer answer = {0};
  ChildEnd end = run_in_child(work_on_request, request, request->timeout_ms, &runner.host,
                              runner.notes, &answer);
  if (end == CHILD_HOST_GONE) exit(0);
  if (end != CHILD_ANSWERED) answer_failure(request, end, &answer);
  else send_answer(answer.data, answer.length);
  buffer_free(&answer);
}

static void refuse_request(AnswerTag tag, const char *detail, Buffer *json) {
  write_failure(json, tag, "bad_request", detail);
  buffer_print(json, "}");
}

/* False when the host asks to stop, or there is no lease to work under. */
static bool answer(const Frame *frame, const JsonNode *node) {
  char detail[MAX_DETAIL] = "";
  Buffer json = {0};
  Request request = {.tick_ns = runner.tick_ns, .tag.generation = runner.lease.generation};
  const char *op = json_string(json_get(node, "op"));
  if (!op || !json_u64(json_get(node, "id"), &request.tag.id))
    die("malformed request: it needs an id (whole, >= 0) and an op");
  bool is_work = !strcmp(op, "time") || !strcmp(op, "run");
  bool goes_on = strcmp(op, "stop") && runner.lease_result == LEASE_TAKEN;
  if (runner.lease_result != LEASE_TAKEN) {
    write_refusal(request.tag, &json);
  } else if (!strcmp(op, "describe")) {
    write_description(request.tag, &json);
  } else if (!strcmp(op, "stop")) {
    write_tag(&json, request.tag);
    buffer_print(&json, "}");
  } else if (!is_work) {
    snprintf(detail, sizeof detail, "op must be describe, time, run or stop, got %.100s", op);
    refuse_request(request.tag, detail, &json);
  } else if (!request_read(node, frame, &request, detail)) {
    refuse_request(request.tag, detail, &json);
  } else {
    answer_in_child(&request);
  }
  request_free(&request);
  if (json.length) send_json(&json);
  return goes_on;
}

__attribute__((noreturn)) static void die_of_usage(void) {
  die("usage: runner [--root FOLDER] [--silence-ms N] "
      "[--lease FILE --holder TEXT --host TEXT [--steal]]");
}

static int64_t read_milliseconds(const char *text) {
  char *end;
  long long value = strtoll(text, &end, 10);
  if (end == text || *end || value < 1 || value > 86400000) die_of_usage();
  return value;
}

static void read_arguments(int n_arguments, char **arguments) {
  Lease *lease = &runner.lease;
  for (int i = 1; i < n_arguments; i++) {
    const char *name = arguments[i];
    if (!strcmp(name, "--steal")) {
      lease->steals = true;
      continue;
    }
    if (++i == n_arguments) die_of_usage();
    if (!strcmp(name, "--root")) set_system_root(arguments[i]);
    else if (!strcmp(name, "--silence-ms")) runner.host.silence_ms = read_milliseconds(arguments[i]);
    else if (!strcmp(name, "--lease")) lease->path = arguments[i];
    else if (!strcmp(name, "--holder")) lease->holder = arguments[i];
    else if (!strcmp(name, "--host")) lease->host = arguments[i];
    else die_of_usage();
  }
  bool has_all = lease->path && lease->holder && lease->host;
  if (!has_all && (lease->path || lease->holder || lease->host || lease->steals)) die_of_usage();
  if (has_all && (strlen(lease->holder) > MAX_LEASE_TEXT || strlen(lease->host) > MAX_LEASE_TEXT))
    die("--holder and --host must have at most %d bytes", MAX_LEASE_TEXT);
}

/* However the runner ends by itself. Children that call exit are not the holder. */
static void release(void) {
  if (getpid() == runner_pid && runner.lease.generation) lease_release(&runner.lease);
}

static void start_session(void) {
  Lease *lease = &runner.lease;
  runner.host = (Host){.in = STDIN_FILENO, .out = STDOUT_FILENO, .silence_ms = runner.host.silence_ms};
  runner.lease_result = LEASE_TAKEN;
  if (lease->path) {
    lease->silence_ms = runner.host.silence_ms;
    runner.lease_result = lease_take(lease, runner.lease_detail);
    if (runner.lease_result != LEASE_TAKEN) lease->generation = 0;
  }
  if (lease->generation) runner.host.lease = lease;
  runner_pid = getpid();
  atexit(release);
  runner.host.heard_ms = clock_ms();
}

int main(int n_arguments, char **arguments) {
  Frame frame = {0};
  bool goes_on = true;
  read_arguments(n_arguments, arguments);
  signal(SIGPIPE, SIG_IGN);
  runner.tick_ns = start_clock();
  runner.notes = share_notes();
  find_conditions();
  start_session();
  while (goes_on && host_next(&runner.host, &frame)) {
    JsonNode *node = json_parse(frame.json, frame.json_bytes);
    if (!node) die("malformed frame: %u bytes that are not JSON", (unsigned)frame.json_bytes);
    goes_on = answer(&frame, node);
    free(node);
    frame_free(&frame);
  }
  return 0;
}
