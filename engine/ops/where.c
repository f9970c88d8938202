// SPDX-License-Identifier: MIT
//
// where.c: out = condition != 0 ? a : b, the three broadcast together. Backward: da = condition ? dout : 0,
// db = condition ? 0 : dout, each summed over what was stretched. The condition may have any dtype and gets
// no gradient. Tests: tests/ops/.
#include "ops/ops.h"

static mb_status select_into(mb_tensor *out, mb_tensor *condition, mb_tensor *a, mb_tensor *b) {
  mbi_view to = mbi_view_of(out), c = mbi_view_broadcast(condition, &out->shape);
  mbi_view x = mbi_view_broadcast(a, &out->shape), y = mbi_view_broadcast(b, &out->shape);
  return mbi_kernels_of(out)->where(&to, &c, &x, &y);
}

static mb_status common_shape(mbi_shape *out, const mb_tensor *condition, const mb_tensor *a, const mb_tensor *b) {
  mbi_shape pair;
  if (mbi_shape_broadcast(&pair, "mb_where", &a->shape, &b->shape) == MB_OK &&
      mbi_shape_broadcast(out, "mb_where", &condition->shape, &pair) == MB_OK)
    return MB_OK;
  char tc[MBI_SHAPE_TEXT], ta[MBI_SHAPE_TEXT], tb[MBI_SHAPE_TEXT];
  MB_FAIL(MB_ERR_SHAPE, "mb_where: shapes do not fit, condition is %s, a is %s, b is %s",
          mbi_shape_text(tc, condition->shape.ndim, condition->shape.size), mbi_shape_text(ta, a->shape.ndim, a->shape.size),
          mbi_shape_text(tb, b->shape.ndim, b->shape.size));
}

mb_status mb_where(mb_tensor **out, mb_tensor *condition, mb_tensor *a, mb_tensor *b) {
  *out = NULL;
  MB_TRY(mbi_check(condition, "mb_where", "condition"));
  MB_TRY(mbi_check_float(a, "mb_where", "a"));
  MB_TRY(mbi_check_float(b, "mb_where", "b"));
  MB_TRY(mbi_check_same(a, b, "mb_where"));
  if (condition->storage->device != a->storage->device) MB_FAIL(MB_ERR_DEVICE, "mb_where: the tensors are on different devices");
  mbi_shape shape;
  MB_TRY(common_shape(&shape, condition, a, b));
  mb_tensor *mask = condition, *result, *inputs[3] = {NULL, a, b};
  if (condition->dtype != a->dtype) MB_TRY(mbi_cast(&mask, condition, a->dtype));
  else mb_tensor_retain(mask);
  mb_status status = mbi_tensor_new(&result, a->storage->device, a->dtype, &shape);
  if (status == MB_OK) {
    status = select_into(result, mask, a, b);
    status = mbi_finish(out, result, status, MBI_OP_where, inputs, 3, &mask, 1, NULL, 0);
  }
  mb_tensor_release(mask);
  return status;
}

mb_status mbi_where_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *mask = mbi_saved_tensor(node, 0), *zero;
  mbi_shape scalar = {0};
  MB_TRY(mbi_zeros(&zero, node->device, node->dtype, &scalar));
  mb_status status = MB_OK;
  for (int input = 1; input <= 2 && status == MB_OK; input++) {
    if (!mbi_needs(node, input)) continue;
    mb_tensor *dx;
    status = mbi_tensor_like(&dx, dout);
    if (status != MB_OK) break;
    status = input == 1 ? select_into(dx, mask, dout, zero) : select_into(dx, mask, zero, dout);
    if (status == MB_OK) status = mbi_give_unbroadcast(node, input, dx);
    else mb_tensor_release(dx);
  }
  mb_tensor_release(zero);
  return status;
}
