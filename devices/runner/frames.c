#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void pack_u32(char *out, uint32_t value) {
  for (int i = 0; i < 4; i++) out[i] = (char)(value >> (8 * i));
}

static uint32_t unpack_u32(const char *in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) value |= (uint32_t)(unsigned char)in[i] << (8 * i);
  return value;
}

void frame_pack_header(char header[FRAME_HEADER_BYTES], uint32_t json_bytes, uint32_t blob_bytes) {
  pack_u32(header, json_bytes);
  pack_u32(header + 4, blob_bytes);
}

bool frame_unpack_header(const char header[FRAME_HEADER_BYTES], uint32_t *json_bytes,
                         uint32_t *blob_bytes) {
  *json_bytes = unpack_u32(header);
  *blob_bytes = unpack_u32(header + 4);
  return *json_bytes && *json_bytes <= MAX_JSON_BYTES && *blob_bytes <= MAX_BLOB_BYTES;
}

void frame_free(Frame *frame) {
  free(frame->json);
  free(frame->blob);
  *frame = (Frame){0};
}

bool write_all(int descriptor, const void *data, size_t n_bytes) {
  const char *at = data;
  while (n_bytes) {
    ssize_t n_written = write(descriptor, at, n_bytes);
    if (n_written < 0 && errno == EINTR) continue;
    if (n_written < 0) return false;
    at += n_written;
    n_bytes -= (size_t)n_written;
  }
  return true;
}

bool frame_write(int descriptor, const Buffer *json, const void *blob, size_t blob_bytes) {
  char header[FRAME_HEADER_BYTES];
  frame_pack_header(header, (uint32_t)json->length, (uint32_t)blob_bytes);
  return write_all(descriptor, header, sizeof header) &&
         write_all(descriptor, json->data, json->length) && write_all(descriptor, blob, blob_bytes);
}
