#include "requests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "processor.h"

/* For samples, timestamps and the JSON of answers. */
#define OWN_BYTES (UINT64_C(48) << 20)

/* Sums the bytes of the listed tensors; false when an index is wrong. */
static bool count_bytes(const Workload *workload, const JsonNode *indices, uint64_t *n_bytes) {
  *n_bytes = 0;
  if (!indices || indices->type != JSON_ARRAY) return false;
  for (const JsonNode *each = indices->first_child; each; each = each->next) {
    uint64_t index;
    if (!json_u64(each, &index) || index >= workload->n_tensors) return false;
    *n_bytes += workload->tensors[index].n_bytes;
    if (*n_bytes > MAX_BLOB_BYTES) return false;
  }
  return true;
}

static bool read_run(const JsonNode *node, Request *request, char *detail) {
  uint64_t input_bytes;
  request->inputs = json_get(node, "inputs");
  request->outputs = json_get(node, "outputs");
  if (!count_bytes(&request->workload, request->inputs, &input_bytes) ||
      !count_bytes(&request->workload, request->outputs, &request->output_bytes)) {
    snprintf(detail, MAX_DETAIL, "inputs and outputs must list tensors below %llu, up to %u bytes",
             (unsigned long long)request->workload.n_tensors, MAX_BLOB_BYTES);
    return false;
  }
  if (input_bytes == request->blob_bytes) return true;
  snprintf(detail, MAX_DETAIL, "the inputs have %llu bytes, the blob has %llu",
           (unsigned long long)input_bytes, (unsigned long long)request->blob_bytes);
  return false;
}

/* Reads the cores of further threads; no list at all stands for none. */
static bool read_helpers(const JsonNode *node, Request *request, char *detail) {
  const JsonNode *cores = json_get(node, "helper_cores");
  bool is_list = !cores || cores->type == JSON_ARRAY;
  request->n_helpers = 0;
  const JsonNode *each = is_list && cores ? cores->first_child : NULL;
  for (; each; each = each->next) {
    uint64_t core;
    is_list = is_list && request->n_helpers < MAX_HELPERS && json_u64(each, &core) &&
              core <= INT32_MAX;
    if (!is_list) break;
    request->helper_cores[request->n_helpers++] = (int)core;
  }
  if (!is_list)
    snprintf(detail, MAX_DETAIL, "helper_cores must list up to %d whole numbers", MAX_HELPERS);
  return is_list;
}

bool request_read(const JsonNode *node, const Frame *frame, Request *request, char *detail) {
  const JsonNode *core = json_get(node, "core");
  const char *op = json_string(json_get(node, "op"));
  uint64_t chosen = 0;
  request->is_timing = op && !strcmp(op, "time");
  request->blob = frame->blob;
  request->blob_bytes = frame->blob_bytes;
  bool is_pinned = core && core->type != JSON_NULL;
  if (is_pinned && (!json_u64(core, &chosen) || chosen > INT32_MAX)) {
    snprintf(detail, MAX_DETAIL, "core must be a whole number or null");
    return false;
  }
  request->core = is_pinned ? (int64_t)chosen : -1;
  if (!read_helpers(node, request, detail)) return false;
  if (!json_u64(json_get(node, "timeout_ms"), &request->timeout_ms) || !request->timeout_ms ||
      request->timeout_ms > INT32_MAX) {
    snprintf(detail, MAX_DETAIL, "timeout_ms must be from 1 to %d", INT32_MAX);
    return false;
  }
  if (!workload_read(json_get(node, "workload"), &request->workload, detail)) return false;
  if (request->is_timing) return timing_plan_read(json_get(node, "plan"), &request->plan, detail);
  return read_run(node, request, detail);
}

void request_free(Request *request) { workload_free(&request->workload); }

void write_tag(Buffer *json, AnswerTag tag) {
  buffer_print(json, "{\"id\":%llu,\"generation\":", (unsigned long long)tag.id);
  if (tag.generation) buffer_print(json, "%llu", (unsigned long long)tag.generation);
  else buffer_print(json, "null");
}

void write_failure(Buffer *json, AnswerTag tag, const char *reason, const char *detail) {
  write_tag(json, tag);
  buffer_print(json, ",\"failure\":{\"reason\":\"%s\",\"detail\":", reason);
  json_write_string(json, detail);
  buffer_print(json, "}");
}

static void send_failure(int descriptor, AnswerTag tag, const char *reason, const char *detail) {
  Buffer json = {0};
  write_failure(&json, tag, reason, detail);
  buffer_print(&json, "}");
  frame_write(descriptor, &json, NULL, 0);
}

static void send_kernel_error(int descriptor, const Request *request, int64_t call) {
  char detail[2 * MAX_DETAIL];
  const char *error = kernel_error();
  snprintf(detail, sizeof detail, "call %lld, kernel %s: %s", (long long)call,
           request->workload.calls[call].kernel->name,
           *error ? error : "returned an error without a message");
  send_failure(descriptor, request->tag, kernel_lacked_memory() ? "out_of_memory" : "kernel_error",
               detail);
}

static void send_samples(int descriptor, const Request *request, const Samples *samples) {
  Buffer json = {0};
  write_tag(&json, request->tag);
  buffer_print(&json, ",\"n_repeats\":%llu,\"tick_ns\":%lld,\"n_preemptions\":%ld",
               (unsigned long long)samples->n_repeats, (long long)request->tick_ns,
               samples->n_preemptions);
  buffer_print(&json, ",\"n_timestamped\":%llu,\"block_ns\":[",
               (unsigned long long)samples->n_timestamped);
  for (uint64_t i = 0; i < samples->n_blocks; i++)
    buffer_print(&json, "%s%lld", i ? "," : "", (long long)samples->block_ns[i]);
  buffer_print(&json, "],\"before\":");
  write_conditions(&json, &samples->before);
  buffer_print(&json, ",\"after\":");
  write_conditions(&json, &samples->after);
  buffer_print(&json, "}");
  uint64_t n_stamps = samples->n_timestamped * request->workload.n_calls;
  frame_write(descriptor, &json, samples->call_ns, (size_t)n_stamps * sizeof(int64_t));
}

static void send_outputs(int descriptor, const Request *request, const Memory *memory) {
  Buffer json = {0}, blob = {0};
  write_tag(&json, request->tag);
  buffer_print(&json, "}");
  for (const JsonNode *each = request->outputs->first_child; each; each = each->next) {
    uint64_t index = 0;
    json_u64(each, &index);
    const TensorPlan *tensor = &request->workload.tensors[index];
    buffer_append(&blob, memory_tensor(memory, tensor), tensor->n_bytes);
  }
  frame_write(descriptor, &json, blob.data, blob.length);
}

static void copy_inputs(const Request *request, const Memory *memory) {
  const char *at = request->blob;
  for (const JsonNode *each = request->inputs->first_child; each; each = each->next) {
    uint64_t index = 0;
    json_u64(each, &index);
    const TensorPlan *tensor = &request->workload.tensors[index];
    memcpy(memory_tensor(memory, tensor), at, tensor->n_bytes);
    at += tensor->n_bytes;
  }
}

/* Answers and what is kept for them are counted twice: buffers grow by doubling. */
static uint64_t needed_bytes(const Request *request) {
  return OWN_BYTES + 2 * request->output_bytes + memory_mapped_bytes(&request->workload) +
         (uint64_t)request->n_helpers * 2 * POOL_STACK_BYTES;
}

static bool prepare(int descriptor, const Request *request, volatile ChildNotes *notes,
                    Memory *memory) {
  char detail[MAX_DETAIL] = "";
  limit_child(request->timeout_ms, 1 + request->n_helpers);
  notes->memory_bytes = limit_memory(needed_bytes(request), available_bytes());
  /* The stacks of helpers are in it, and will not be touched. */
  if (notes->memory_bytes) notes->memory_bytes -= (uint64_t)request->n_helpers * POOL_STACK_BYTES;
  if (request->core >= 0 && !pin_to_core((uint64_t)request->core)) {
    snprintf(detail, sizeof detail, "cannot run on core %lld: %s", (long long)request->core,
             strerror(errno));
    send_failure(descriptor, request->tag, "bad_request", detail);
    return false;
  }
  MemoryResult result = memory_prepare(&request->workload, memory, detail);
  if (result == MEMORY_READY) return true;
  send_failure(descriptor, request->tag, result == MEMORY_FULL ? "out_of_memory" : "bad_request",
               detail);
  return false;
}

static bool start_helpers(int descriptor, const Request *request) {
  char detail[MAX_DETAIL];
  int refused;
  if (!request->n_helpers || pool_start(request->helper_cores, request->n_helpers, &refused))
    return true;
  snprintf(detail, sizeof detail, "cannot run a thread on core %d: %s",
           request->helper_cores[refused], strerror(errno));
  send_failure(descriptor, request->tag, "bad_request", detail);
  return false;
}

void work_on_request(int descriptor, volatile ChildNotes *notes, const void *context) {
  const Request *request = context;
  Memory memory;
  Samples samples = {0};
  if (!prepare(descriptor, request, notes, &memory) || !start_helpers(descriptor, request)) return;
  if (!request->is_timing) copy_inputs(request, &memory);
  Executable executable = bind_calls(&request->workload, &memory);
  flush_subnormals();
  int64_t failed = execute_watched(&executable, &notes->call);
  if (failed < 0 && request->is_timing)
    failed = time_blocks(&executable, &request->plan, request->tick_ns, request->core, &samples);
  if (failed >= 0) send_kernel_error(descriptor, request, failed);
  else if (request->is_timing) send_samples(descriptor, request, &samples);
  else send_outputs(descriptor, request, &memory);
}
