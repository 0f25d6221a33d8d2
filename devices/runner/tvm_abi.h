/* What a compiled TVM kernel knows of the world: its arguments, workspace and errors. */
#ifndef LATLOOP_TVM_ABI_H
#define LATLOOP_TVM_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Layouts of dlpack.h and tvm/ffi/c_api.h. */
typedef struct {
  int32_t device_type; /* 1: CPU */
  int32_t device_id;
} DLDevice;

typedef struct {
  uint8_t code; /* 2: float */
  uint8_t bits;
  uint16_t lanes;
} DLDataType;

typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides; /* NULL: C order without gaps */
  uint64_t byte_offset;
} DLTensor;

typedef struct {
  int32_t type_index;
  uint32_t zero_padding;
  union {
    int64_t v_int64;
    void *v_ptr;
  };
} TVMFFIAny;

enum { TVM_FFI_DLTENSOR_PTR = 7 };

_Static_assert(sizeof(TVMFFIAny) == 16, "TVMFFIAny has 16 bytes on every target");

typedef int (*TVMFFISafeCallType)(void *self, const TVMFFIAny *arguments, int32_t n_arguments,
                                  TVMFFIAny *result);

typedef struct {
  const char *name;
  TVMFFISafeCallType function;
} Kernel;

/* The generated table. */
extern const Kernel latloop_kernels[];
extern const size_t latloop_n_kernels;

/* The kernel of this name, or NULL. */
const Kernel *find_kernel(const char *name);

/* What the last failing kernel said, or "". */
const char *kernel_error(void);

/* Whether it asked for a workspace that the limit of memory had no room for. */
bool kernel_lacked_memory(void);

#endif
