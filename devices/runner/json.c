#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32 };

typedef struct {
  char *at;
  char *end;
  JsonNode *nodes;
  size_t n_nodes;
} Reader;

static bool read_value(Reader *reader, JsonNode *node, int depth);

static void skip_space(Reader *reader) {
  while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at) reader->at++;
}

static bool accept(Reader *reader, char wanted) {
  skip_space(reader);
  if (reader->at >= reader->end || *reader->at != wanted) return false;
  reader->at++;
  return true;
}

static bool read_hex(const char *text, uint32_t *value) {
  *value = 0;
  for (int i = 0; i < 4; i++) {
    char c = text[i];
    uint32_t digit;
    if (c >= '0' && c <= '9') digit = (uint32_t)(c - '0');
    else if (c >= 'a' && c <= 'f') digit = (uint32_t)(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F') digit = (uint32_t)(c - 'A' + 10);
    else return false;
    *value = *value * 16 + digit;
  }
  return true;
}

static char *put_utf8(char *out, uint32_t code) {
  if (code < 0x80) {
    *out++ = (char)code;
  } else if (code < 0x800) {
    *out++ = (char)(0xC0 | code >> 6);
    *out++ = (char)(0x80 | (code & 63));
  } else if (code < 0x10000) {
    *out++ = (char)(0xE0 | code >> 12);
    *out++ = (char)(0x80 | (code >> 6 & 63));
    *out++ = (char)(0x80 | (code & 63));
  } else {
    *out++ = (char)(0xF0 | code >> 18);
    *out++ = (char)(0x80 | (code >> 12 & 63));
    *out++ = (char)(0x80 | (code >> 6 & 63));
    *out++ = (char)(0x80 | (code & 63));
  }
  return out;
}

/* Reads \uXXXX, after the u; a pair of surrogates is one character. */
static bool read_unicode(Reader *reader, char **out) {
  uint32_t code, low;
  if (reader->end - reader->at < 4 || !read_hex(reader->at, &code) || code == 0) return false;
  reader->at += 4;
  if (code >= 0xD800 && code < 0xE000) {
    if (code >= 0xDC00 || reader->end - reader->at < 6 || memcmp(reader->at, "\\u", 2) ||
        !read_hex(reader->at + 2, &low) || low < 0xDC00 || low >= 0xE000)
      return false;
    reader->at += 6;
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  *out = put_utf8(*out, code);
  return true;
}

/* Reads a string after its opening quote; the unescaped text replaces the escaped one. */
static bool read_string(Reader *reader, const char **text) {
  static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  char *out = reader->at;
  *text = out;
  while (reader->at < reader->end) {
    char c = *reader->at++;
    if (c == '"') {
      *out = 0;
      return true;
    }
    if ((unsigned char)c < 0x20) return false;
    if (c != '\\') {
      *out++ = c;
      continue;
    }
    if (reader->at >= reader->end) return false;
    c = *reader->at++;
    const char *found = c ? strchr(escapes, c) : NULL;
    if (found) *out++ = meanings[found - escapes];
    else if (c != 'u' || !read_unicode(reader, &out)) return false;
  }
  return false;
}

static bool read_children(Reader *reader, JsonNode *parent, char close, int depth) {
  JsonNode **link = &parent->first_child;
  if (accept(reader, close)) return true;
  do {
    JsonNode *child = &reader->nodes[reader->n_nodes++];
    if (close == '}' &&
        (!accept(reader, '"') || !read_string(reader, &child->key) || !accept(reader, ':')))
      return false;
    if (!read_value(reader, child, depth + 1)) return false;
    *link = child;
    link = &child->next;
    parent->n_children++;
  } while (accept(reader, ','));
  return accept(reader, close);
}

static bool read_number(Reader *reader, JsonNode *node) {
  char *end;
  node->type = JSON_NUMBER;
  node->text = reader->at;
  if (*reader->at != '-' && (*reader->at < '0' || *reader->at > '9')) return false;
  strtod(reader->at, &end);
  if (end == reader->at || end > reader->end) return false;
  /* strtod also takes hexadecimal, infinities and NaN: JSON does not. */
  for (char *at = reader->at; at < end; at++)
    if (!strchr("+-.eE0123456789", *at)) return false;
  reader->at = end;
  return true;
}

static bool read_value(Reader *reader, JsonNode *node, int depth) {
  static const struct {
    const char *word;
    JsonType type;
  } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
  if (depth > MAX_DEPTH) return false;
  skip_space(reader);
  if (reader->at >= reader->end) return false;
  if (accept(reader, '{')) {
    node->type = JSON_OBJECT;
    return read_children(reader, node, '}', depth);
  }
  if (accept(reader, '[')) {
    node->type = JSON_ARRAY;
    return read_children(reader, node, ']', depth);
  }
  if (accept(reader, '"')) {
    node->type = JSON_STRING;
    return read_string(reader, &node->text);
  }
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    size_t length = strlen(words[i].word);
    if ((size_t)(reader->end - reader->at) >= length &&
        !memcmp(reader->at, words[i].word, length)) {
      node->type = words[i].type;
      reader->at += length;
      return true;
    }
  }
  return read_number(reader, node);
}

JsonNode *json_parse(char *text, size_t n_bytes) {
  /* Each value but the root follows a comma or an opening bracket. */
  size_t n_most = 1;
  for (size_t i = 0; i < n_bytes; i++)
    n_most += text[i] == ',' || text[i] == '[' || text[i] == '{';
  Reader reader = {text, text + n_bytes, calloc(n_most, sizeof(JsonNode)), 1};
  if (!reader.nodes) die("out of memory: no room for %zu JSON values", n_most);
  if (read_value(&reader, reader.nodes, 0)) {
    skip_space(&reader);
    if (reader.at == reader.end) return reader.nodes;
  }
  free(reader.nodes);
  return NULL;
}

const JsonNode *json_get(const JsonNode *object, const char *key) {
  if (!object || object->type != JSON_OBJECT) return NULL;
  for (const JsonNode *child = object->first_child; child; child = child->next)
    if (!strcmp(child->key, key)) return child;
  return NULL;
}

bool json_u64(const JsonNode *node, uint64_t *value) {
  char *end;
  if (!node || node->type != JSON_NUMBER || *node->text == '-') return false;
  errno = 0;
  *value = strtoull(node->text, &end, 10);
  return !errno && *end != '.' && *end != 'e' && *end != 'E';
}

bool json_double(const JsonNode *node, double *value) {
  if (!node || node->type != JSON_NUMBER) return false;
  *value = strtod(node->text, NULL);
  return true;
}

const char *json_string(const JsonNode *node) {
  return node && node->type == JSON_STRING ? node->text : NULL;
}

/* Bytes of the UTF-8 character that a text begins with; 0 when it is none beyond ASCII. */
static size_t utf8_bytes(const char *text) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  unsigned char first = (unsigned char)*text;
  size_t n_bytes = first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
  uint32_t code = first & (0x7f >> n_bytes);
  for (size_t i = 1; i < n_bytes; i++) {
    if (((unsigned char)text[i] & 0xC0) != 0x80) return 0;
    code = code << 6 | ((unsigned char)text[i] & 63);
  }
  bool is_character = code >= least[n_bytes] && code < 0x110000 && code >> 11 != 27;
  return is_character ? n_bytes : 0;
}

void json_write_string(Buffer *buffer, const char *text) {
  buffer_append(buffer, "\"", 1);
  while (*text) {
    unsigned char c = (unsigned char)*text;
    size_t n_bytes = c < 0x80 ? 1 : utf8_bytes(text);
    if (c == '"' || c == '\\') buffer_print(buffer, "\\%c", c);
    else if (c < 0x20 || c == 0x7f || !n_bytes) buffer_print(buffer, "\\u%04x", c);
    else buffer_append(buffer, text, n_bytes);
    text += n_bytes ? n_bytes : 1;
  }
  buffer_append(buffer, "\"", 1);
}
