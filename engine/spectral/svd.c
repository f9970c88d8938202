// SPDX-License-Identifier: MIT
//
// svd.c: singular value decompositions of single matrices and batches, and norms of many tensors at once.
// Not differentiable: results have no history.
#include <stdio.h>

#include "spectral/spectral.h"

// *copy = `a` made contiguous in memory of its own, which LAPACK may overwrite. m, n, count from its shape.
static mb_status take(mb_tensor **copy, mb_tensor *a, const char *who, int64_t *m, int64_t *n, int64_t *count) {
  char text[MBI_SHAPE_TEXT];
  MB_TRY(mbi_check_float(a, who, "a"));
  int ndim = a->shape.ndim;
  if (ndim != 2 && ndim != 3)
    MB_FAIL(MB_ERR_SHAPE, "%s: a (m, n) or (L, m, n) was expected, the tensor has shape %s", who,
            mbi_shape_text(text, ndim, a->shape.size));
  *count = ndim == 3 ? a->shape.size[0] : 1;
  *m = a->shape.size[ndim - 2];
  *n = a->shape.size[ndim - 1];
  MB_TRY(mbi_tensor_like(copy, a));
  mbi_view to = mbi_view_of(*copy), from = mbi_view_of(a);
  int64_t bad = -1;
  mb_status status = mbi_memory_of(a)->copy_view(&to, &from, mbi_dtype_size(a->dtype));
  if (status == MB_OK) status = mbi_kernels_of(a)->find_nonfinite(&bad, mbi_data(*copy), mbi_numel(a));
  if (status == MB_OK && bad >= 0)
    status = mbi_fail(MB_ERR_NONFINITE, "%s: a holds NaN or Inf, first at element %lld", who, (long long)bad);
  if (status != MB_OK) {
    mb_tensor_release(*copy);
    *copy = NULL;
  }
  return status;
}

// A new tensor (rows, columns) or (count, rows, columns); columns 0 leaves that dimension out.
static mb_status result(mb_tensor **out, const mb_tensor *a, int64_t rows, int64_t columns) {
  mbi_shape shape = {0};
  if (a->shape.ndim == 3) shape.size[shape.ndim++] = a->shape.size[0];
  shape.size[shape.ndim++] = rows;
  if (columns) shape.size[shape.ndim++] = columns;
  return mbi_tensor_new(out, a->storage->device, a->dtype, &shape);
}

mb_status mb_svdvals(mb_tensor **out, mb_tensor *a) {
  mb_tensor *copy, *s = NULL;
  int64_t m, n, count;
  *out = NULL;
  MB_TRY(take(&copy, a, "mb_svdvals", &m, &n, &count));
  mb_status status = result(&s, a, m < n ? m : n, 0);
  if (status == MB_OK) status = mbi_kernels_of(a)->svd(NULL, mbi_data(s), NULL, mbi_data(copy), m, n, count);
  mb_tensor_release(copy);
  if (status != MB_OK) mb_tensor_release(s);
  else *out = s;
  return status;
}

mb_status mb_svd(mb_tensor **u, mb_tensor **s, mb_tensor **v, mb_tensor *a) {
  mb_tensor *copy, *left = NULL, *values = NULL, *right = NULL;
  int64_t m, n, count;
  *u = *s = *v = NULL;
  MB_TRY(take(&copy, a, "mb_svd", &m, &n, &count));
  int64_t k = m < n ? m : n;
  mb_status status = result(&left, a, m, k);
  if (status == MB_OK) status = result(&values, a, k, 0);
  if (status == MB_OK) status = result(&right, a, n, k);
  if (status == MB_OK) status = mbi_kernels_of(a)->svd(mbi_data(left), mbi_data(values), mbi_data(right), mbi_data(copy), m, n, count);
  mb_tensor_release(copy);
  if (status != MB_OK) {
    mb_tensor_release(left), mb_tensor_release(values), mb_tensor_release(right);
    return status;
  }
  *u = left, *s = values, *v = right;
  return MB_OK;
}

mb_status mb_sum_squares(double *out, mb_tensor *const *tensors, int64_t count) {
  if (!out || !tensors || count < 1)
    MB_FAIL(MB_ERR_ARG, "mb_sum_squares: %lld tensors, at least 1 was expected, and out and tensors not NULL", (long long)count);
  char who[48];
  for (int64_t i = 0; i < count; i++) {
    snprintf(who, sizeof who, "mb_sum_squares: tensor %lld", (long long)i);
    MB_TRY(mbi_check_float(tensors[i], who, "it"));
  }
  for (int64_t i = 0; i < count; i++) {
    mb_tensor *dense;
    MB_TRY(mbi_dense(&dense, tensors[i]));
    double sum = 0;
    mb_status status = mbi_kernels_of(dense)->sum_squares(&sum, mbi_data(dense), mbi_numel(dense));
    mb_tensor_release(dense);
    MB_TRY(status);
    out[i] = sum;
  }
  return MB_OK;
}
