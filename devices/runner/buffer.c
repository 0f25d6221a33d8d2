#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("latloop runner: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(2);
}

char *buffer_reserve(Buffer *buffer, size_t n_bytes) {
  size_t needed = buffer->length + n_bytes;
  if (needed > buffer->capacity) {
    size_t capacity = buffer->capacity * 2 > needed ? buffer->capacity * 2 : needed;
    if (capacity < 256) capacity = 256;
    char *data = realloc(buffer->data, capacity);
    if (!data) die("out of memory: no room for %zu bytes", capacity);
    buffer->data = data;
    buffer->capacity = capacity;
  }
  return buffer->data + buffer->length;
}

void buffer_append(Buffer *buffer, const void *data, size_t n_bytes) {
  if (!n_bytes) return;
  memcpy(buffer_reserve(buffer, n_bytes), data, n_bytes);
  buffer->length += n_bytes;
}

void buffer_print(Buffer *buffer, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int n_bytes = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (n_bytes < 0) die("cannot format %s", format);
  va_start(arguments, format);
  vsnprintf(buffer_reserve(buffer, (size_t)n_bytes + 1), (size_t)n_bytes + 1, format, arguments);
  va_end(arguments);
  buffer->length += (size_t)n_bytes;
}

void buffer_free(Buffer *buffer) {
  free(buffer->data);
  *buffer = (Buffer){0};
}
