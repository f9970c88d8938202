// SPDX-License-Identifier: MIT
//
// layernorm.c: y = (x - mean) / sqrt(variance + epsilon) weight + bias over the last dimension, weight and
// bias optional (Ba, Kiros, Hinton 2016). Saved for the backward: x, the weight, and mean and 1/sqrt of
// each row. One kernel writes all three gradients, each straight to where it is wanted: in a residual
// network that adds dx to the gradient of the skip path without a pass of its own.
// Tests: tests/c/test_norms.c.
#include "ops/ops.h"

// A parameter of the last dimension's size, or NULL.
static mb_status check_row(const mb_tensor *t, const mb_tensor *x, const char *argument) {
  if (!t) return MB_OK;
  MB_TRY(mbi_check_float(t, "mb_layernorm", argument));
  MB_TRY(mbi_check_same(x, t, "mb_layernorm"));
  char text[MBI_SHAPE_TEXT], other[MBI_SHAPE_TEXT];
  int64_t columns = x->shape.size[x->shape.ndim - 1];
  if (t->shape.ndim != 1 || t->shape.size[0] != columns)
    MB_FAIL(MB_ERR_SHAPE, "mb_layernorm: %s has shape %s, (%lld) was expected for x of shape %s", argument,
            mbi_shape_text(text, t->shape.ndim, t->shape.size), (long long)columns, mbi_shape_text(other, x->shape.ndim, x->shape.size));
  return MB_OK;
}

static void *data_or_null(const mb_tensor *t) { return t ? mbi_data(t) : NULL; }

mb_status mb_layernorm(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias, double epsilon) {
  *out = NULL;
  MB_TRY(mbi_check_float(x, "mb_layernorm", "x"));
  if (x->shape.ndim < 1) MB_FAIL(MB_ERR_SHAPE, "mb_layernorm: x has no dimension to normalise over");
  MB_TRY(check_row(weight, x, "weight"));
  MB_TRY(check_row(bias, x, "bias"));
  if (!(epsilon >= 0)) MB_FAIL(MB_ERR_ARG, "mb_layernorm: epsilon is %g, a number >= 0 was expected", epsilon);
  mb_tensor *inputs[3] = {x, weight, bias}, *dense = NULL, *w = NULL, *b = NULL, *mean = NULL, *rstd = NULL, *y = NULL;
  int64_t columns = x->shape.size[x->shape.ndim - 1], rows = mbi_numel(x) / columns;
  mbi_shape shape = {.ndim = 1, .size = {rows}};
  mb_status status = mbi_dense(&dense, x);
  if (status == MB_OK && weight) status = mbi_dense(&w, weight);
  if (status == MB_OK && bias) status = mbi_dense(&b, bias);
  if (status == MB_OK && mbi_will_record(inputs, 3)) {
    status = mbi_tensor_new(&mean, x->storage->device, mbi_wide_dtype(x->dtype), &shape);
    if (status == MB_OK) status = mbi_tensor_new(&rstd, x->storage->device, mbi_wide_dtype(x->dtype), &shape);
  }
  if (status == MB_OK) status = mbi_tensor_like(&y, dense);
  if (status == MB_OK) {
    status = mbi_kernels_of(x)->layernorm(mbi_data(y), data_or_null(mean), data_or_null(rstd), mbi_data(dense), data_or_null(w),
                                          data_or_null(b), rows, columns, epsilon);
    status = mbi_finish(out, y, status, MBI_OP_layernorm, inputs, 3, (mb_tensor *[]){dense, w, mean, rstd}, 4, NULL, 0);
  }
  mb_tensor_release(rstd);
  mb_tensor_release(mean);
  mb_tensor_release(b);
  mb_tensor_release(w);
  mb_tensor_release(dense);
  return status;
}

mb_status mbi_layernorm_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *x = mbi_saved_tensor(node, 0), *weight = mbi_saved_tensor(node, 1);
  mb_tensor *mean = mbi_saved_tensor(node, 2), *rstd = mbi_saved_tensor(node, 3);
  int64_t columns = x->shape.size[x->shape.ndim - 1], rows = mbi_numel(x) / columns;
  mbi_place d[MBI_MAX_INPUTS]; // x, weight, bias
  MB_TRY(mbi_places_open(d, node));
  mb_status status = mbi_kernels_of(x)->layernorm_backward(
    mbi_place_data(&d[0]), d[0].accumulate, mbi_place_data(&d[1]), d[1].accumulate, mbi_place_data(&d[2]), d[2].accumulate,
    mbi_data(dout), mbi_data(x), mbi_data(mean), mbi_data(rstd), data_or_null(weight), rows, columns);
  return mbi_places_close(d, node, status);
}
