// SPDX-License-Identifier: MIT
//
// rmsnorm.c: y = x / sqrt(mean(x^2) + epsilon) weight over the last dimension, weight optional (Zhang,
// Sennrich 2019); of x, or of a sum that the same pass over memory makes (norms.h). Saved for the backward: x, the weight, and
// 1/sqrt of each row; both gradients are written straight to where they are wanted. Tests: tests/c/test_norms.c.
#include "ops/norms.h"

static mb_status forward(mb_tensor **out, mb_tensor **sum, mb_tensor *x, mb_tensor *added, mb_tensor *weight, double epsilon, const char *who) {
  *out = NULL;
  MB_TRY(mbi_norm_check(x, added, epsilon, who));
  MB_TRY(mbi_norm_check_row(weight, x, who, "weight"));
  mbi_norm n;
  mb_tensor *inputs[3] = {x, weight, added};
  mb_status status = mbi_norm_make(&n, x, added, weight, NULL);
  if (status == MB_OK && mbi_will_record(inputs, 3)) status = mbi_norm_statistic(&n.rstd, &n);
  if (status == MB_OK)
    status = mbi_kernels_of(x)->rmsnorm(mbi_data(n.y), mbi_data_or_null(n.rstd), mbi_data_or_null(n.sum), mbi_data(n.x),
                                        mbi_data_or_null(n.added), mbi_data_or_null(n.weight), n.rows, n.columns, epsilon);
  if (status == MB_OK && added) status = mbi_norm_record_sum(&n, x, added);
  mb_tensor *normed = added ? n.sum : n.x, *y = n.y;
  if (added) inputs[0] = n.sum;
  n.y = NULL;
  status = mbi_finish(out, y, status, MBI_OP_rmsnorm, inputs, 2, (mb_tensor *[]){normed, n.weight, n.rstd}, 3, NULL, 0);
  if (status == MB_OK && added) *sum = n.sum, n.sum = NULL;
  mbi_norm_free(&n);
  return status;
}

mb_status mb_rmsnorm(mb_tensor **out, mb_tensor *x, mb_tensor *weight, double epsilon) {
  return forward(out, NULL, x, NULL, weight, epsilon, "mb_rmsnorm");
}

mb_status mb_add_rmsnorm(mb_tensor **out, mb_tensor **sum, mb_tensor *x, mb_tensor *added, mb_tensor *weight, double epsilon) {
  *out = *sum = NULL;
  MB_TRY(mbi_check(added, "mb_add_rmsnorm", "added"));
  return forward(out, sum, x, added, weight, epsilon, "mb_add_rmsnorm");
}

mb_status mbi_rmsnorm_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *x = mbi_saved_tensor(node, 0), *weight = mbi_saved_tensor(node, 1), *rstd = mbi_saved_tensor(node, 2);
  int64_t columns = x->shape.size[x->shape.ndim - 1], rows = mbi_numel(x) / columns;
  mbi_place d[MBI_MAX_INPUTS]; // x, weight
  MB_TRY(mbi_places_open(d, node, 1u << 1));
  mb_status status = mbi_kernels_of(x)->rmsnorm_backward(mbi_place_data(&d[0]), d[0].accumulate, mbi_place_data(&d[1]), d[1].accumulate,
                                                         mbi_data(dout), mbi_data(x), mbi_data(rstd), mbi_data_or_null(weight), rows, columns);
  return mbi_places_close(d, node, status);
}
