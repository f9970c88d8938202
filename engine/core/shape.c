// SPDX-License-Identifier: MIT
//
// shape.c: arithmetic on sizes and strides, and the table of element types.
#include "core/shape.h"

#include <stdio.h>
#include <string.h>

const char *mbi_shape_text(char *text, int ndim, const int64_t *size) {
  size_t used = 0;
  used += (size_t)snprintf(text, MBI_SHAPE_TEXT, "(");
  for (int i = 0; i < ndim && used < MBI_SHAPE_TEXT - 24; i++)
    used += (size_t)snprintf(text + used, MBI_SHAPE_TEXT - used, i ? ", %lld" : "%lld", (long long)size[i]);
  snprintf(text + used, MBI_SHAPE_TEXT - used, ")");
  return text;
}

mb_status mbi_shape_make(mbi_shape *out, const char *who, int ndim, const int64_t *size) {
  if (ndim < 0 || ndim > MB_MAX_DIMS)
    MB_FAIL(MB_ERR_SHAPE, "%s: a tensor has 0 to %d dimensions, not %d", who, MB_MAX_DIMS, ndim);
  char text[MBI_SHAPE_TEXT];
  int64_t numel = 1;
  for (int i = 0; i < ndim; i++) {
    if (size[i] < 1)
      MB_FAIL(MB_ERR_SHAPE, "%s: shape %s has a size below 1", who, mbi_shape_text(text, ndim, size));
    // 2^59 elements of 8 bytes still fit int64 bytes.
    if (__builtin_mul_overflow(numel, size[i], &numel) || numel > ((int64_t)1 << 59))
      MB_FAIL(MB_ERR_SHAPE, "%s: shape %s has too many elements", who, mbi_shape_text(text, ndim, size));
    out->size[i] = size[i];
  }
  out->ndim = ndim;
  return MB_OK;
}

int64_t mbi_shape_numel(const mbi_shape *shape) {
  int64_t numel = 1;
  for (int i = 0; i < shape->ndim; i++) numel *= shape->size[i];
  return numel;
}

int mbi_shape_equal(const mbi_shape *a, const mbi_shape *b) {
  return a->ndim == b->ndim && memcmp(a->size, b->size, (size_t)a->ndim * sizeof *a->size) == 0;
}

void mbi_shape_contiguous_strides(const mbi_shape *shape, int64_t *stride) {
  int64_t step = 1;
  for (int i = shape->ndim - 1; i >= 0; i--) {
    stride[i] = step;
    step *= shape->size[i];
  }
}

mb_status mbi_shape_broadcast(mbi_shape *out, const char *who, const mbi_shape *a, const mbi_shape *b) {
  int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
  mbi_shape result = {.ndim = ndim};
  for (int i = 1; i <= ndim; i++) {
    int64_t x = i <= a->ndim ? a->size[a->ndim - i] : 1, y = i <= b->ndim ? b->size[b->ndim - i] : 1;
    if (x != y && x != 1 && y != 1) {
      char ta[MBI_SHAPE_TEXT], tb[MBI_SHAPE_TEXT];
      MB_FAIL(MB_ERR_SHAPE, "%s: shapes do not fit, a is %s, b is %s", who,
              mbi_shape_text(ta, a->ndim, a->size), mbi_shape_text(tb, b->ndim, b->size));
    }
    result.size[ndim - i] = x == 1 ? y : x;
  }
  return mbi_shape_make(out, who, ndim, result.size);
}

mb_status mbi_dim(int *out, const char *who, int dim, int ndim) {
  if (dim < -ndim || dim >= ndim)
    MB_FAIL(MB_ERR_ARG, "%s: dimension %d does not exist, the tensor has %d", who, dim, ndim);
  *out = dim < 0 ? dim + ndim : dim;
  return MB_OK;
}

static const struct {
  const char *name;
  size_t size;
} dtypes[MB_DTYPE_COUNT] = { /* ORDER DTYPE */ {"f32", 4}, {"f64", 8}, {"i32", 4}, {"u16", 2}, {"u8", 1}, {"bf16", 2} };

size_t mbi_dtype_size(mb_dtype dtype) { return dtypes[dtype].size; }
const char *mbi_dtype_name(mb_dtype dtype) {
  return (unsigned)dtype < MB_DTYPE_COUNT ? dtypes[dtype].name : "unknown dtype";
}
int mbi_dtype_is_float(mb_dtype dtype) { return dtype == MB_F32 || dtype == MB_F64 || dtype == MB_BF16; }
mb_dtype mbi_wide_dtype(mb_dtype dtype) { return dtype == MB_BF16 ? MB_F32 : dtype; }
