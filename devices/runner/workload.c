#include "workload.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSOR_ALIGNMENT = 64 };
#define MAX_REGION_BYTES (UINT64_C(1) << 40)

static const char *const region_names[N_REGIONS] = {"arena", "weights"};

__attribute__((format(printf, 2, 3))) static bool refuse(char *detail, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(detail, MAX_DETAIL, format, arguments);
  va_end(arguments);
  return false;
}

static bool read_shape(const JsonNode *node, TensorPlan *tensor) {
  if (!node || node->type != JSON_ARRAY || node->n_children > MAX_DIMENSIONS) return false;
  tensor->n_elements = 1;
  for (const JsonNode *each = node->first_child; each; each = each->next) {
    uint64_t extent;
    if (!json_u64(each, &extent) || !extent || extent > MAX_REGION_BYTES / tensor->n_elements)
      return false;
    tensor->n_elements *= extent;
    tensor->shape[tensor->n_dimensions++] = (int64_t)extent;
  }
  return true;
}

typedef struct {
  const char *name;
  DLDataType type;
} NamedType;

/* What the names mean is DLPack's: 0 integer, 1 unsigned, 2 floating point, 6 truth value. */
static const NamedType types[] = {
    {"float32", {2, 32, 1}}, {"float64", {2, 64, 1}}, {"float16", {2, 16, 1}},
    {"int8", {0, 8, 1}},     {"int16", {0, 16, 1}},   {"int32", {0, 32, 1}},
    {"int64", {0, 64, 1}},   {"uint8", {1, 8, 1}},    {"bool", {6, 8, 1}},
};

/* No name is float32. */
static bool read_type(const JsonNode *node, TensorPlan *tensor) {
  const char *name = node ? json_string(node) : types[0].name;
  for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
    if (!strcmp(name, types[i].name)) {
      tensor->type = types[i].type;
      tensor->n_bytes = tensor->n_elements * (tensor->type.bits / 8);
      return true;
    }
  return false;
}

static bool is_float32(const TensorPlan *tensor) {
  return tensor->type.code == 2 && tensor->type.bits == 32;
}

static bool read_fill(const JsonNode *node, TensorPlan *tensor) {
  double scale;
  if (!node || node->type == JSON_NULL) return true;
  if (!is_float32(tensor)) return false;
  if (!json_u64(json_get(node, "seed"), &tensor->seed)) return false;
  if (!json_double(json_get(node, "scale"), &scale) || !isfinite((float)scale)) return false;
  tensor->scale = (float)scale;
  return tensor->has_fill = true;
}

static bool read_tensor(const JsonNode *node, uint64_t index, const uint64_t *region_bytes,
                        TensorPlan *tensor, char *detail) {
  const char *name = json_string(json_get(node, "region"));
  tensor->region = name && !strcmp(name, "weights") ? REGION_WEIGHTS : REGION_ARENA;
  if (!name || strcmp(name, region_names[tensor->region]))
    return refuse(detail, "tensor %llu: region must be arena or weights", (unsigned long long)index);
  if (!json_u64(json_get(node, "offset"), &tensor->offset_bytes) ||
      tensor->offset_bytes % TENSOR_ALIGNMENT)
    return refuse(detail, "tensor %llu: offset must be a multiple of %d", (unsigned long long)index,
                  TENSOR_ALIGNMENT);
  if (!read_shape(json_get(node, "shape"), tensor))
    return refuse(detail, "tensor %llu: shape must be up to %d extents >= 1",
                  (unsigned long long)index, MAX_DIMENSIONS);
  if (!read_type(json_get(node, "dtype"), tensor))
    return refuse(detail, "tensor %llu: dtype must be one of float16/32/64, int8/16/32/64, uint8, "
                  "bool", (unsigned long long)index);
  if (!read_fill(json_get(node, "fill"), tensor))
    return refuse(detail, "tensor %llu: fill must be of float32, with a seed from 0 to 2^64-1 and "
                  "a finite scale", (unsigned long long)index);
  uint64_t n_bytes = tensor->n_bytes, room = region_bytes[tensor->region];
  if (tensor->offset_bytes > room || n_bytes > room - tensor->offset_bytes)
    return refuse(detail, "tensor %llu: %llu bytes at %llu do not fit in the %s of %llu bytes",
                  (unsigned long long)index, (unsigned long long)n_bytes,
                  (unsigned long long)tensor->offset_bytes, name, (unsigned long long)room);
  return true;
}

static bool read_call(const JsonNode *node, uint64_t index, uint64_t n_tensors, CallPlan *call,
                      char *detail) {
  const char *name = json_string(json_get(node, "kernel"));
  const JsonNode *tensors = json_get(node, "tensors");
  call->kernel = name ? find_kernel(name) : NULL;
  if (!call->kernel)
    return refuse(detail, "call %llu: the executable has no kernel %.200s",
                  (unsigned long long)index, name ? name : "(no name given)");
  if (!tensors || tensors->type != JSON_ARRAY || tensors->n_children > MAX_CALL_TENSORS)
    return refuse(detail, "call %llu: tensors must be a list of up to %d indices",
                  (unsigned long long)index, MAX_CALL_TENSORS);
  for (const JsonNode *each = tensors->first_child; each; each = each->next) {
    uint64_t tensor;
    if (!json_u64(each, &tensor) || tensor >= n_tensors)
      return refuse(detail, "call %llu: tensor indices must be below %llu",
                    (unsigned long long)index, (unsigned long long)n_tensors);
    call->tensors[call->n_tensors++] = (uint32_t)tensor;
  }
  return true;
}

static bool read_regions(const JsonNode *node, Workload *workload, char *detail) {
  static const char *const keys[N_REGIONS] = {"arena_bytes", "weight_bytes"};
  for (int region = 0; region < N_REGIONS; region++) {
    uint64_t *n_bytes = &workload->region_bytes[region];
    if (!json_u64(json_get(node, keys[region]), n_bytes) || *n_bytes > MAX_REGION_BYTES)
      return refuse(detail, "%s must be from 0 to %llu", keys[region],
                    (unsigned long long)MAX_REGION_BYTES);
  }
  workload->weights_file = json_string(json_get(node, "weights_file"));
  return true;
}

bool workload_read(const JsonNode *node, Workload *workload, char *detail) {
  const JsonNode *tensors = json_get(node, "tensors"), *calls = json_get(node, "calls");
  *workload = (Workload){0};
  if (!tensors || tensors->type != JSON_ARRAY || !calls || calls->type != JSON_ARRAY)
    return refuse(detail, "a workload needs lists of tensors and calls");
  if (!calls->n_children) return refuse(detail, "a workload needs at least one call");
  if (!read_regions(node, workload, detail)) return false;
  workload->tensors = calloc(tensors->n_children + 1, sizeof(TensorPlan));
  workload->calls = calloc(calls->n_children, sizeof(CallPlan));
  if (!workload->tensors || !workload->calls) die("out of memory: no room for a workload");
  for (const JsonNode *each = tensors->first_child; each; each = each->next) {
    uint64_t index = workload->n_tensors++;
    if (!read_tensor(each, index, workload->region_bytes, &workload->tensors[index], detail))
      return false;
  }
  for (const JsonNode *each = calls->first_child; each; each = each->next) {
    uint64_t index = workload->n_calls++;
    if (!read_call(each, index, workload->n_tensors, &workload->calls[index], detail))
      return false;
  }
  return true;
}

void workload_free(Workload *workload) {
  free(workload->tensors);
  free(workload->calls);
}
