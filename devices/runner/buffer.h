/* A growing byte buffer; running out of memory ends the process with a message. */
#ifndef LATLOOP_BUFFER_H
#define LATLOOP_BUFFER_H

#include <stddef.h>

typedef struct {
  char *data;
  size_t length;
  size_t capacity;
} Buffer;

/* Makes room for n_bytes more and returns where they go; the length is not changed. */
char *buffer_reserve(Buffer *buffer, size_t n_bytes);
void buffer_append(Buffer *buffer, const void *data, size_t n_bytes);
__attribute__((format(printf, 2, 3))) void buffer_print(Buffer *buffer, const char *format, ...);
void buffer_free(Buffer *buffer);

/* Prints to stderr and ends the process: for faults after which no request can be answered. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

#endif
