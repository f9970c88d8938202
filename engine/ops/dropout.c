// SPDX-License-Identifier: MIT
//
// dropout.c: zeroes elements with probability p and scales the rest by 1/(1-p) (Srivastava et al. 2014).
// Which ones is a function of (seed, step, stream) and the element's row-major index, so that the backward
// makes the same mask again from three numbers, on any device and after a resume. A call takes one stream;
// with p = 0 the input itself comes back and no stream is taken. Tests: tests/c/test_layers.c.
#include "core/rng.h"
#include "ops/ops.h"

typedef struct dropout_params {
  double p;
  mbi_rng_key key;
} dropout_params;

// y = x masked; x is contiguous.
static mb_status mask(mb_tensor *y, const mb_tensor *x, const dropout_params *d) {
  return mbi_kernels_of(x)->dropout(mbi_data(y), mbi_data(x), mbi_numel(x), d->p, d->key.seed, d->key.step, d->key.stream);
}

mb_status mb_dropout(mb_tensor **out, mb_tensor *a, double p) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, "mb_dropout", "a"));
  if (!(p >= 0 && p < 1)) MB_FAIL(MB_ERR_ARG, "mb_dropout: p is %g, a number >= 0 and < 1 was expected", p);
  if (p == 0) {
    mb_tensor_retain(a);
    *out = a;
    return MB_OK;
  }
  mb_tensor *dense, *y;
  MB_TRY(mbi_dense(&dense, a));
  mb_status status = mbi_tensor_like(&y, a);
  if (status == MB_OK) {
    dropout_params params = {p, mbi_rng_next()};
    status = mask(y, dense, &params);
    status = mbi_finish(out, y, status, MBI_OP_dropout, &a, 1, NULL, 0, &params, sizeof params);
    if (status != MB_OK) mbi_rng_give_back(params.key);
  }
  mb_tensor_release(dense);
  return status;
}

mb_status mbi_dropout_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *dx;
  MB_TRY(mbi_tensor_like(&dx, dout));
  mb_status status = mask(dx, dout, (const dropout_params *)node->params);
  if (status == MB_OK) return mbi_give(node, 0, dx);
  mb_tensor_release(dx);
  return status;
}
