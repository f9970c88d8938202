// SPDX-License-Identifier: MIT
//
// binary.c: out = f(a, b) with broadcasting, comparisons and where.
//
// Backward, g = dL/dout, each then summed over what was stretched:
//   add  da = g            db = g            mul  da = g b         db = g a
//   sub  da = g            db = -g           div  da = g / b       db = -g a / b^2
//   pow  da = g b a^(b-1)  db = g a^b log a  (0 where a = 0)
//   min, max: g goes to the smaller (larger) argument, to a on a tie.
#include "ops/ops.h"

static const char *const names[MBI_BINARY_COUNT] = { /* ORDER BINARY */
  "mb_add", "mb_sub", "mb_mul", "mb_div", "mb_pow", "mb_minimum", "mb_maximum", "mb_less", "mb_less_equal", "mb_equal",
};

static mb_status binary(mb_tensor **out, mb_tensor *a, mb_tensor *b, enum mbi_binary f) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, names[f], "a"));
  MB_TRY(mbi_check_float(b, names[f], "b"));
  MB_TRY(mbi_check_same(a, b, names[f]));
  mbi_shape shape;
  MB_TRY(mbi_shape_broadcast(&shape, names[f], &a->shape, &b->shape));
  mb_tensor *result, *inputs[2] = {a, b};
  MB_TRY(mbi_tensor_new(&result, a->storage->device, a->dtype, &shape));
  mbi_view to = mbi_view_of(result), x = mbi_view_broadcast(a, &shape), y = mbi_view_broadcast(b, &shape);
  mb_status status = mbi_kernels_of(a)->binary(f, &to, &x, &y);
  int is_comparison = f >= MBI_LESS, is_linear = f == MBI_ADD || f == MBI_SUB;
  if (is_comparison && status == MB_OK) {
    *out = result;
    return MB_OK;
  }
  mb_tensor *saved[2] = {is_linear ? NULL : a, is_linear ? NULL : b};
  return mbi_finish(out, result, status, MBI_OP_binary, inputs, 2, saved, 2, &f, sizeof f);
}

// dx in the broadcast shape for one side of mul, div, pow, min or max.
static mb_status wide_gradient(mb_tensor **dx, mbi_node *node, mb_tensor *dout, enum mbi_binary f, int side) {
  MB_TRY(mbi_tensor_like(dx, dout));
  mbi_view a = mbi_view_broadcast(mbi_saved_tensor(node, 0), &dout->shape);
  mbi_view b = mbi_view_broadcast(mbi_saved_tensor(node, 1), &dout->shape);
  mb_status status = mbi_kernels_of(dout)->binary_backward(f, side, mbi_data(*dx), mbi_data(dout), &a, &b);
  if (status != MB_OK) mb_tensor_release(*dx);
  return status;
}

// add and sub need no values: the gradient itself, or its negative.
static mb_status linear_gradient(mb_tensor **dx, mb_tensor *dout, int negate) {
  if (!negate) {
    mb_tensor_retain(dout);
    *dx = dout;
    return MB_OK;
  }
  MB_TRY(mbi_tensor_like(dx, dout));
  mbi_view to = mbi_view_of(*dx), from = mbi_view_of(dout);
  mb_status status = mbi_kernels_of(dout)->unary(MBI_NEG, &to, &from, 0, 0);
  if (status != MB_OK) mb_tensor_release(*dx);
  return status;
}

mb_status mbi_binary_backward(mbi_node *node, mb_tensor *dout) {
  enum mbi_binary f = *(const enum mbi_binary *)node->params;
  for (int side = 0; side < 2; side++) {
    if (!mbi_needs(node, side)) continue;
    mb_tensor *dx;
    if (f == MBI_ADD || f == MBI_SUB) MB_TRY(linear_gradient(&dx, dout, f == MBI_SUB && side == 1));
    else MB_TRY(wide_gradient(&dx, node, dout, f, side));
    MB_TRY(mbi_give_unbroadcast(node, side, dx));
  }
  return MB_OK;
}

mb_status mb_add(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_ADD); }
mb_status mb_sub(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_SUB); }
mb_status mb_mul(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_MUL); }
mb_status mb_div(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_DIV); }
mb_status mb_pow(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_POW); }
mb_status mb_minimum(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_MIN); }
mb_status mb_maximum(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_MAX); }
mb_status mb_less(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_LESS); }
mb_status mb_less_equal(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_LESS_EQUAL); }
mb_status mb_equal(mb_tensor **out, mb_tensor *a, mb_tensor *b) { return binary(out, a, b, MBI_EQUAL); }
