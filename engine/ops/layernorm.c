// SPDX-License-Identifier: MIT
//
// layernorm.c: y = (x - mean) / sqrt(variance + epsilon) weight + bias over the last dimension, weight and
// bias optional (Ba, Kiros, Hinton 2016); of x, or of a sum that the same pass over memory makes (norms.h). Saved for the
// backward: x, the weight, and mean and 1/sqrt of each row. One kernel writes all three gradients, each straight to where it is
// wanted: in a residual network that adds dx to the gradient of the skip path without a pass of its own.
// Tests: tests/c/test_norms.c.
#include "ops/norms.h"

static mb_status forward(mb_tensor **out, mb_tensor **sum, mb_tensor *x, mb_tensor *added, mb_tensor *weight, mb_tensor *bias, double epsilon,
                         const char *who) {
  *out = NULL;
  MB_TRY(mbi_norm_check(x, added, epsilon, who));
  MB_TRY(mbi_norm_check_row(weight, x, who, "weight"));
  MB_TRY(mbi_norm_check_row(bias, x, who, "bias"));
  mbi_norm n;
  mb_tensor *inputs[4] = {x, weight, bias, added};
  mb_status status = mbi_norm_make(&n, x, added, weight, bias);
  if (status == MB_OK && mbi_will_record(inputs, 4)) {
    status = mbi_norm_statistic(&n.mean, &n);
    if (status == MB_OK) status = mbi_norm_statistic(&n.rstd, &n);
  }
  if (status == MB_OK)
    status = mbi_kernels_of(x)->layernorm(mbi_data(n.y), mbi_data_or_null(n.mean), mbi_data_or_null(n.rstd), mbi_data_or_null(n.sum),
                                          mbi_data(n.x), mbi_data_or_null(n.added), mbi_data_or_null(n.weight), mbi_data_or_null(n.bias), n.rows,
                                          n.columns, epsilon);
  if (status == MB_OK && added) status = mbi_norm_record_sum(&n, x, added);
  mb_tensor *normed = added ? n.sum : n.x, *y = n.y;
  if (added) inputs[0] = n.sum;
  n.y = NULL;
  status = mbi_finish(out, y, status, MBI_OP_layernorm, inputs, 3, (mb_tensor *[]){normed, n.weight, n.mean, n.rstd}, 4, NULL, 0);
  if (status == MB_OK && added) *sum = n.sum, n.sum = NULL;
  mbi_norm_free(&n);
  return status;
}

mb_status mb_layernorm(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias, double epsilon) {
  return forward(out, NULL, x, NULL, weight, bias, epsilon, "mb_layernorm");
}

mb_status mb_add_layernorm(mb_tensor **out, mb_tensor **sum, mb_tensor *x, mb_tensor *added, mb_tensor *weight, mb_tensor *bias,
                           double epsilon) {
  *out = *sum = NULL;
  MB_TRY(mbi_check(added, "mb_add_layernorm", "added"));
  return forward(out, sum, x, added, weight, bias, epsilon, "mb_add_layernorm");
}

mb_status mbi_layernorm_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *x = mbi_saved_tensor(node, 0), *weight = mbi_saved_tensor(node, 1);
  mb_tensor *mean = mbi_saved_tensor(node, 2), *rstd = mbi_saved_tensor(node, 3);
  int64_t columns = x->shape.size[x->shape.ndim - 1], rows = mbi_numel(x) / columns;
  mbi_place d[MBI_MAX_INPUTS]; // x, weight, bias
  MB_TRY(mbi_places_open(d, node, 1u << 1 | 1u << 2));
  mb_status status = mbi_kernels_of(x)->layernorm_backward(
    mbi_place_data(&d[0]), d[0].accumulate, mbi_place_data(&d[1]), d[1].accumulate, mbi_place_data(&d[2]), d[2].accumulate,
    mbi_data(dout), mbi_data(x), mbi_data(mean), mbi_data(rstd), mbi_data_or_null(weight), rows, columns);
  return mbi_places_close(d, node, status);
}
