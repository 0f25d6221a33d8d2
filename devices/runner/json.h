/* A small JSON reader (in place, bounded depth) and one writer function for strings. */
#ifndef LATLOOP_JSON_H
#define LATLOOP_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

typedef enum {
  JSON_NULL,
  JSON_FALSE,
  JSON_TRUE,
  JSON_NUMBER,
  JSON_STRING,
  JSON_ARRAY,
  JSON_OBJECT
} JsonType;

typedef struct JsonNode {
  JsonType type;
  const char *key;  /* name inside an object, else NULL */
  const char *text; /* string, or the number's first digit */
  size_t n_children;
  struct JsonNode *first_child;
  struct JsonNode *next; /* the next child of the same parent */
} JsonNode;

/* Reads text[0..n_bytes), which must be followed by a NUL and is changed in place.
 * Returns an array of nodes, the root first, to be freed by the caller; NULL when malformed. */
JsonNode *json_parse(char *text, size_t n_bytes);

/* The child of an object with this name, or NULL; NULL is passed through. */
const JsonNode *json_get(const JsonNode *object, const char *key);

/* Whole numbers from 0; false when the node is absent, no number, or out of range. */
bool json_u64(const JsonNode *node, uint64_t *value);
bool json_double(const JsonNode *node, double *value);
/* The text of a string node, or NULL. */
const char *json_string(const JsonNode *node);

void json_write_string(Buffer *buffer, const char *text);

#endif
