// SPDX-License-Identifier: MIT
//
// softmax.c: softmax and its logarithm over one dimension. The result is saved, not the input: the backward
// needs no more. A row of nothing but -infinity, or with a NaN, gives NaN. Tests: tests/c/test_softmax.c.
#include "ops/ops.h"

typedef struct softmax_params {
  int64_t outer, size, inner;
  int is_log;
} softmax_params;

static mb_status softmax(mb_tensor **out, mb_tensor *a, int dim, int is_log, const char *who) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, who, "a"));
  MB_TRY(mbi_dim(&dim, who, dim, a->shape.ndim));
  softmax_params p = {1, a->shape.size[dim], 1, is_log};
  for (int d = 0; d < a->shape.ndim; d++)
    if (d != dim) *(d < dim ? &p.outer : &p.inner) *= a->shape.size[d];
  mb_tensor *dense, *y = NULL;
  MB_TRY(mbi_dense(&dense, a));
  mb_status status = mbi_tensor_like(&y, a);
  if (status == MB_OK) {
    status = mbi_kernels_of(a)->softmax(mbi_data(y), mbi_data(dense), p.outer, p.size, p.inner, is_log);
    status = mbi_finish(out, y, status, MBI_OP_softmax, &a, 1, &y, 1, &p, sizeof p);
  }
  mb_tensor_release(dense);
  return status;
}

mb_status mb_softmax(mb_tensor **out, mb_tensor *a, int dim) { return softmax(out, a, dim, 0, "mb_softmax"); }
mb_status mb_log_softmax(mb_tensor **out, mb_tensor *a, int dim) { return softmax(out, a, dim, 1, "mb_log_softmax"); }

mb_status mbi_softmax_backward(mbi_node *node, mb_tensor *dout) {
  const softmax_params *p = (const softmax_params *)node->params;
  mb_tensor *y = mbi_saved_tensor(node, 0), *dx;
  int accumulate;
  MB_TRY(mbi_sink(&dx, &accumulate, node, 0));
  mb_status status = mbi_kernels_of(dout)->softmax_backward(mbi_data(dx), accumulate, mbi_data(dout), mbi_data(y), p->outer, p->size,
                                                            p->inner, p->is_log);
  mb_tensor_release(dx);
  return status;
}
