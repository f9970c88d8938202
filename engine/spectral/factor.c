// SPDX-License-Identifier: MIT
//
// factor.c: QR, symmetric eigenvalues and Cholesky factors of single matrices and batches. Not differentiable:
// results have no history.
#include "spectral/matrix.h"

mb_status mb_qr(mb_tensor **q, mb_tensor **r, mb_tensor *a) {
  mb_tensor *copy, *left = NULL, *right = NULL;
  mbi_matrices size;
  *q = *r = NULL;
  MB_TRY(mbi_matrices_copy(&copy, &size, a, "mb_qr"));
  mb_status status = mbi_matrices_new(&left, a, a->dtype, size.m, size.k);
  if (status == MB_OK) status = mbi_matrices_new(&right, a, a->dtype, size.k, size.n);
  if (status == MB_OK) status = mbi_kernels_of(a)->qr(mbi_data(left), mbi_data(right), mbi_data(copy), size.m, size.n, size.count);
  mb_tensor_release(copy);
  if (status != MB_OK) {
    mb_tensor_release(left), mb_tensor_release(right);
    return status;
  }
  *q = left, *r = right;
  return MB_OK;
}

mb_status mb_eigh(mb_tensor **values, mb_tensor **vectors, mb_tensor *a) {
  mb_tensor *copy, *found = NULL, *columns = NULL;
  mbi_matrices size;
  *values = *vectors = NULL;
  MB_TRY(mbi_matrices_copy_square(&copy, &size, a, "mb_eigh"));
  mb_status status = mbi_matrices_new(&found, a, a->dtype, size.n, 0);
  if (status == MB_OK) status = mbi_matrices_new(&columns, a, a->dtype, size.n, size.n);
  if (status == MB_OK) status = mbi_kernels_of(a)->eigh(mbi_data(found), mbi_data(columns), mbi_data(copy), size.n, size.count);
  mb_tensor_release(copy);
  if (status != MB_OK) {
    mb_tensor_release(found), mb_tensor_release(columns);
    return status;
  }
  *values = found, *vectors = columns;
  return MB_OK;
}

mb_status mb_eigvalsh(mb_tensor **values, mb_tensor *a) {
  mb_tensor *copy, *found = NULL;
  mbi_matrices size;
  *values = NULL;
  MB_TRY(mbi_matrices_copy_square(&copy, &size, a, "mb_eigvalsh"));
  mb_status status = mbi_matrices_new(&found, a, a->dtype, size.n, 0);
  if (status == MB_OK) status = mbi_kernels_of(a)->eigh(mbi_data(found), NULL, mbi_data(copy), size.n, size.count);
  mb_tensor_release(copy);
  if (status != MB_OK) mb_tensor_release(found);
  else *values = found;
  return status;
}

mb_status mb_cholesky(mb_tensor **l, mb_tensor *a) {
  mb_tensor *copy;
  mbi_matrices size;
  int64_t member, minor;
  *l = NULL;
  MB_TRY(mbi_matrices_copy_square(&copy, &size, a, "mb_cholesky"));
  mb_status status = mbi_kernels_of(a)->cholesky(&member, &minor, mbi_data(copy), size.n, size.count);
  if (status == MB_OK && member >= 0)
    status = mbi_fail(MB_ERR_NUMERIC,
                      "mb_cholesky: matrix %lld of %lld, of shape (%lld, %lld), is not positive definite: its leading minor of order %lld "
                      "is not positive",
                      (long long)member, (long long)size.count, (long long)size.n, (long long)size.n, (long long)minor);
  if (status != MB_OK) mb_tensor_release(copy);
  else *l = copy;
  return status;
}
