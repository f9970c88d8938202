// SPDX-License-Identifier: MIT
//
// matrix.c: how functions of one matrix (m, n), or of a batch of them (L, m, n), take their argument and make
// their results. Any strides, float32 or float64; what is not finite is refused before any work.
#include "core/capture.h"
#include "spectral/matrix.h"

static mb_status check_square(const mbi_matrices *s, const mb_tensor *a, const char *who) {
  char text[MBI_SHAPE_TEXT];
  if (s->m == s->n) return MB_OK;
  MB_FAIL(MB_ERR_SHAPE, "%s: a square matrix (n, n) or (L, n, n) was expected, a has shape %s", who,
          mbi_shape_text(text, a->shape.ndim, a->shape.size));
}

mb_status mbi_matrices_of(mbi_matrices *s, mb_tensor *a, const char *who) {
  char text[MBI_SHAPE_TEXT];
  MB_TRY(mbi_check_wide(a, who, "a"));
  int ndim = a->shape.ndim;
  if (ndim != 2 && ndim != 3)
    MB_FAIL(MB_ERR_SHAPE, "%s: a (m, n) or (L, m, n) was expected, the tensor has shape %s", who,
            mbi_shape_text(text, ndim, a->shape.size));
  enum { MOST = 1 << 24, MOST_SMALLER = 1 << 14 }; // LAPACK counts its work, of k^2 numbers, in int32
  s->count = ndim == 3 ? a->shape.size[0] : 1;
  s->m = a->shape.size[ndim - 2];
  s->n = a->shape.size[ndim - 1];
  s->k = s->m < s->n ? s->m : s->n;
  if (s->m > MOST || s->n > MOST || s->k > MOST_SMALLER)
    MB_FAIL(MB_ERR_SHAPE, "%s: a has shape %s, sides of at most %d and min(m, n) of at most %d are supported", who,
            mbi_shape_text(text, ndim, a->shape.size), MOST, MOST_SMALLER);
  return MB_OK;
}

// In a graph, which waits for nothing, this is up to who captures it.
mb_status mbi_matrices_finite(const mb_tensor *dense, const char *who) {
  int64_t bad;
  if (mbi_capture_is_on(dense->storage->device)) return MB_OK;
  MB_TRY(mbi_kernels_of(dense)->find_nonfinite(&bad, mbi_data(dense), mbi_numel(dense)));
  if (bad >= 0) MB_FAIL(MB_ERR_NONFINITE, "%s: a holds NaN or Inf, first at element %lld (they count from 0)", who, (long long)bad);
  return MB_OK;
}

mb_status mbi_matrices_copy(mb_tensor **copy, mbi_matrices *s, mb_tensor *a, const char *who) {
  *copy = NULL;
  MB_TRY(mbi_matrices_of(s, a, who));
  MB_TRY(mbi_tensor_like(copy, a));
  mbi_view to = mbi_view_of(*copy), from = mbi_view_of(a);
  mb_status status = mbi_memory_of(a)->copy_view(&to, &from, mbi_dtype_size(a->dtype));
  if (status == MB_OK) status = mbi_matrices_finite(*copy, who);
  if (status == MB_OK) return MB_OK;
  mb_tensor_release(*copy);
  *copy = NULL;
  return status;
}

mb_status mbi_matrices_copy_square(mb_tensor **copy, mbi_matrices *s, mb_tensor *a, const char *who) {
  *copy = NULL;
  MB_TRY(mbi_matrices_of(s, a, who));
  MB_TRY(check_square(s, a, who));
  return mbi_matrices_copy(copy, s, a, who);
}

mb_status mbi_matrices_new(mb_tensor **out, const mb_tensor *a, mb_dtype dtype, int64_t rows, int64_t columns) {
  mbi_shape shape = {0};
  if (a->shape.ndim == 3) shape.size[shape.ndim++] = a->shape.size[0];
  shape.size[shape.ndim++] = rows;
  if (columns) shape.size[shape.ndim++] = columns;
  return mbi_tensor_new(out, a->storage->device, dtype, &shape);
}
