// SPDX-License-Identifier: MIT
//
// norms.c: see norms.h. An op that adds and then norms has two results, and the tape two nodes: the sum, made by an addition, and
// the norm of the sum. Backward, the sum's gradient is there first, from whatever else has read it; the norm's kernel adds dx to it
// where it lies; and the addition passes it on without a copy.
#include "ops/norms.h"

mb_status mbi_norm_make(mbi_norm *n, mb_tensor *x, mb_tensor *added, mb_tensor *weight, mb_tensor *bias) {
  *n = (mbi_norm){.columns = x->shape.size[x->shape.ndim - 1]};
  n->rows = mbi_numel(x) / n->columns;
  MB_TRY(mbi_dense(&n->x, x));
  if (added) MB_TRY(mbi_dense(&n->added, added));
  if (weight) MB_TRY(mbi_dense(&n->weight, weight));
  if (bias) MB_TRY(mbi_dense(&n->bias, bias));
  if (added) MB_TRY(mbi_tensor_like(&n->sum, n->x));
  return mbi_tensor_like(&n->y, n->x);
}

mb_status mbi_norm_statistic(mb_tensor **out, const mbi_norm *n) {
  mbi_shape shape = {.ndim = 1, .size = {n->rows}};
  return mbi_tensor_new(out, n->x->storage->device, mbi_wide_dtype(n->x->dtype), &shape);
}

void mbi_norm_free(mbi_norm *n) {
  mb_tensor_release(n->rstd), mb_tensor_release(n->mean), mb_tensor_release(n->sum), mb_tensor_release(n->y);
  mb_tensor_release(n->bias), mb_tensor_release(n->weight), mb_tensor_release(n->added), mb_tensor_release(n->x);
}

mb_status mbi_norm_record_sum(mbi_norm *n, mb_tensor *x, mb_tensor *added) {
  const enum mbi_binary f = MBI_ADD;
  return mbi_record(n->sum, MBI_OP_binary, (mb_tensor *[]){x, added}, 2, NULL, 0, &f, sizeof f);
}
