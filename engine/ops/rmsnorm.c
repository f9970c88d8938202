// SPDX-License-Identifier: MIT
//
// rmsnorm.c: y = x / sqrt(mean(x^2) + epsilon) weight over the last dimension, weight optional (Zhang,
// Sennrich 2019). Saved for the backward: x, the weight, and 1/sqrt of each row; both gradients are written
// straight to where they are wanted. Tests: tests/c/test_norms.c.
#include "ops/ops.h"

static void *data_or_null(const mb_tensor *t) { return t ? mbi_data(t) : NULL; }

static mb_status check_arguments(const mb_tensor *x, const mb_tensor *weight, double epsilon) {
  MB_TRY(mbi_check_float(x, "mb_rmsnorm", "x"));
  if (x->shape.ndim < 1) MB_FAIL(MB_ERR_SHAPE, "mb_rmsnorm: x has no dimension to normalise over");
  if (!(epsilon >= 0)) MB_FAIL(MB_ERR_ARG, "mb_rmsnorm: epsilon is %g, a number >= 0 was expected", epsilon);
  if (!weight) return MB_OK;
  MB_TRY(mbi_check_float(weight, "mb_rmsnorm", "weight"));
  MB_TRY(mbi_check_same(x, weight, "mb_rmsnorm"));
  char text[MBI_SHAPE_TEXT], other[MBI_SHAPE_TEXT];
  int64_t columns = x->shape.size[x->shape.ndim - 1];
  if (weight->shape.ndim != 1 || weight->shape.size[0] != columns)
    MB_FAIL(MB_ERR_SHAPE, "mb_rmsnorm: weight has shape %s, (%lld) was expected for x of shape %s",
            mbi_shape_text(text, weight->shape.ndim, weight->shape.size), (long long)columns,
            mbi_shape_text(other, x->shape.ndim, x->shape.size));
  return MB_OK;
}

mb_status mb_rmsnorm(mb_tensor **out, mb_tensor *x, mb_tensor *weight, double epsilon) {
  *out = NULL;
  MB_TRY(check_arguments(x, weight, epsilon));
  mb_tensor *inputs[2] = {x, weight}, *dense = NULL, *w = NULL, *rstd = NULL, *y = NULL;
  int64_t columns = x->shape.size[x->shape.ndim - 1], rows = mbi_numel(x) / columns;
  mbi_shape shape = {.ndim = 1, .size = {rows}};
  mb_status status = mbi_dense(&dense, x);
  if (status == MB_OK && weight) status = mbi_dense(&w, weight);
  if (status == MB_OK && mbi_will_record(inputs, 2)) status = mbi_tensor_new(&rstd, x->storage->device, mbi_wide_dtype(x->dtype), &shape);
  if (status == MB_OK) status = mbi_tensor_like(&y, dense);
  if (status == MB_OK) {
    status = mbi_kernels_of(x)->rmsnorm(mbi_data(y), data_or_null(rstd), mbi_data(dense), data_or_null(w), rows, columns, epsilon);
    status = mbi_finish(out, y, status, MBI_OP_rmsnorm, inputs, 2, (mb_tensor *[]){dense, w, rstd}, 3, NULL, 0);
  }
  mb_tensor_release(rstd);
  mb_tensor_release(w);
  mb_tensor_release(dense);
  return status;
}

mb_status mbi_rmsnorm_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *x = mbi_saved_tensor(node, 0), *weight = mbi_saved_tensor(node, 1), *rstd = mbi_saved_tensor(node, 2);
  int64_t columns = x->shape.size[x->shape.ndim - 1], rows = mbi_numel(x) / columns;
  mbi_place d[MBI_MAX_INPUTS]; // x, weight
  MB_TRY(mbi_places_open(d, node));
  mb_status status = mbi_kernels_of(x)->rmsnorm_backward(mbi_place_data(&d[0]), d[0].accumulate, mbi_place_data(&d[1]), d[1].accumulate,
                                                         mbi_data(dout), mbi_data(x), mbi_data(rstd), data_or_null(weight), rows, columns);
  return mbi_places_close(d, node, status);
}
