// SPDX-License-Identifier: MIT
//
// svd.c: singular value decompositions of single matrices and batches, and norms of many tensors at once.
// Not differentiable: results have no history.
#include <stdio.h>

#include "spectral/matrix.h"

mb_status mb_svdvals(mb_tensor **out, mb_tensor *a) {
  mb_tensor *copy, *s = NULL;
  mbi_matrices size;
  *out = NULL;
  MB_TRY(mbi_matrices_copy(&copy, &size, a, "mb_svdvals"));
  mb_status status = mbi_matrices_new(&s, a, a->dtype, size.k, 0);
  if (status == MB_OK) status = mbi_kernels_of(a)->svd(NULL, mbi_data(s), NULL, mbi_data(copy), size.m, size.n, size.count);
  mb_tensor_release(copy);
  if (status != MB_OK) mb_tensor_release(s);
  else *out = s;
  return status;
}

mb_status mb_svd(mb_tensor **u, mb_tensor **s, mb_tensor **v, mb_tensor *a) {
  mb_tensor *copy, *left = NULL, *values = NULL, *right = NULL;
  mbi_matrices size;
  *u = *s = *v = NULL;
  MB_TRY(mbi_matrices_copy(&copy, &size, a, "mb_svd"));
  mb_status status = mbi_matrices_new(&left, a, a->dtype, size.m, size.k);
  if (status == MB_OK) status = mbi_matrices_new(&values, a, a->dtype, size.k, 0);
  if (status == MB_OK) status = mbi_matrices_new(&right, a, a->dtype, size.n, size.k);
  if (status == MB_OK)
    status = mbi_kernels_of(a)->svd(mbi_data(left), mbi_data(values), mbi_data(right), mbi_data(copy), size.m, size.n, size.count);
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
    MB_TRY(mbi_check_wide(tensors[i], who, "it"));
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
