/* Frames on a byte stream: two little-endian u32 (JSON bytes, blob bytes), JSON, blob. */
#ifndef LATLOOP_FRAMES_H
#define LATLOOP_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

enum { FRAME_HEADER_BYTES = 8 };
#define MAX_JSON_BYTES (16u << 20)
#define MAX_BLOB_BYTES (1u << 30)

typedef struct {
  char *json; /* followed by a NUL */
  uint32_t json_bytes;
  char *blob;
  uint32_t blob_bytes;
} Frame;

void frame_free(Frame *frame);

/* False when the other side is gone. */
bool frame_write(int descriptor, const Buffer *json, const void *blob, size_t blob_bytes);

void frame_pack_header(char header[FRAME_HEADER_BYTES], uint32_t json_bytes, uint32_t blob_bytes);
/* False when a size is over its bound or the JSON is empty. */
bool frame_unpack_header(const char header[FRAME_HEADER_BYTES], uint32_t *json_bytes,
                         uint32_t *blob_bytes);
bool write_all(int descriptor, const void *data, size_t n_bytes);

#endif
