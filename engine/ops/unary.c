// SPDX-License-Identifier: MIT
//
// unary.c: y = f(x), element by element. Backward is dx = dy f'(x), one kernel for all, which reads x or y,
// whichever f' is cheaper in; only that one is saved. Tests: tests/ops/.
#include "ops/ops.h"

typedef struct unary_params {
  enum mbi_unary f;
  double alpha, beta;
} unary_params;

// What the backward of each function reads. /* ORDER UNARY */
enum needs { NOTHING, X, Y };
static const struct {
  const char *name;
  enum needs needs;
} functions[MBI_UNARY_COUNT] = {
  {"mb_neg", NOTHING}, {"mb_abs", X},     {"mb_sign", NOTHING}, {"mb_exp", Y},  {"mb_log", X},       {"mb_sqrt", Y},
  {"mb_square", X},    {"mb_reciprocal", Y}, {"mb_tanh", Y},    {"mb_sigmoid", Y}, {"mb_silu", X},   {"mb_relu", Y},
  {"mb_gelu_tanh", X}, {"mb_gelu_erf", X}, {"mb_affine", NOTHING}, {"mb_pow_scalar", X},
};

static mb_status unary(mb_tensor **out, mb_tensor *a, enum mbi_unary f, double alpha, double beta) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, functions[f].name, "a"));
  mb_tensor *y;
  MB_TRY(mbi_tensor_like(&y, a));
  mbi_view to = mbi_view_of(y), from = mbi_view_of(a);
  mb_status status = mbi_kernels_of(a)->unary(f, &to, &from, alpha, beta);
  unary_params params = {f, alpha, beta};
  mb_tensor *saved = functions[f].needs == X ? a : functions[f].needs == Y ? y : NULL;
  return mbi_finish(out, y, status, MBI_OP_unary, &a, 1, &saved, 1, &params, sizeof params);
}

mb_status mbi_unary_backward(mbi_node *node, mb_tensor *dout) {
  const unary_params *p = (const unary_params *)node->params;
  mb_tensor *saved = mbi_saved_tensor(node, 0), *dense = NULL, *dx;
  if (saved) MB_TRY(mbi_dense(&dense, saved));
  mb_status status = mbi_tensor_like(&dx, dout);
  if (status == MB_OK) {
    const void *values = dense ? mbi_data(dense) : NULL;
    status = mbi_kernels_of(dx)->unary_backward(p->f, mbi_data(dx), mbi_data(dout), values, values, mbi_numel(dx), p->alpha);
    if (status == MB_OK) status = mbi_give(node, 0, dx);
    else mb_tensor_release(dx);
  }
  mb_tensor_release(dense);
  return status;
}

mb_status mb_neg(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_NEG, 0, 0); }
mb_status mb_abs(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_ABS, 0, 0); }
mb_status mb_sign(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_SIGN, 0, 0); }
mb_status mb_exp(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_EXP, 0, 0); }
mb_status mb_log(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_LOG, 0, 0); }
mb_status mb_sqrt(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_SQRT, 0, 0); }
mb_status mb_square(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_SQUARE, 0, 0); }
mb_status mb_reciprocal(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_RECIPROCAL, 0, 0); }
mb_status mb_tanh(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_TANH, 0, 0); }
mb_status mb_sigmoid(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_SIGMOID, 0, 0); }
mb_status mb_silu(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_SILU, 0, 0); }
mb_status mb_relu(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_RELU, 0, 0); }
mb_status mb_gelu_tanh(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_GELU_TANH, 0, 0); }
mb_status mb_gelu_erf(mb_tensor **out, mb_tensor *a) { return unary(out, a, MBI_GELU_ERF, 0, 0); }
mb_status mb_affine(mb_tensor **out, mb_tensor *a, double scale, double shift) { return unary(out, a, MBI_AFFINE, scale, shift); }
mb_status mb_pow_scalar(mb_tensor **out, mb_tensor *a, double exponent) { return unary(out, a, MBI_POW_SCALAR, exponent, 0); }
