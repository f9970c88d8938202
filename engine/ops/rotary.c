// SPDX-License-Identifier: MIT
//
// rotary.c: rotary position embedding (Su et al. 2021) of x (B, T, H, D): the pair (x[i], x[i + D/2]) of
// position t is turned by (first_position + t) base^(-2i/D). A rotation's transpose turns the other way,
// so the backward is the same kernel with the angle negated, and saves nothing. Tests: tests/c/test_layers.c.
#include "ops/ops.h"

typedef struct rotary_params {
  double base;
  int64_t first_position;
} rotary_params;

mb_status mb_rotary(mb_tensor **out, mb_tensor *x, double base, int64_t first_position) {
  *out = NULL;
  MB_TRY(mbi_check_float(x, "mb_rotary", "x"));
  char text[MBI_SHAPE_TEXT];
  if (x->shape.ndim != 4 || x->shape.size[3] % 2 != 0)
    MB_FAIL(MB_ERR_SHAPE, "mb_rotary: x has shape %s, (B, T, H, D) with an even D was expected",
            mbi_shape_text(text, x->shape.ndim, x->shape.size));
  if (!(base > 0) || base > 1e300) MB_FAIL(MB_ERR_ARG, "mb_rotary: base is %g, a finite number > 0 was expected", base);
  mb_tensor *y;
  MB_TRY(mbi_tensor_like(&y, x));
  mbi_view view = mbi_view_of(x);
  rotary_params params = {base, first_position};
  mb_status status = mbi_kernels_of(x)->rotary(mbi_data(y), &view, base, first_position, 1);
  return mbi_finish(out, y, status, MBI_OP_rotary, &x, 1, NULL, 0, &params, sizeof params);
}

mb_status mbi_rotary_backward(mbi_node *node, mb_tensor *dout) {
  const rotary_params *p = (const rotary_params *)node->params;
  mb_tensor *dx;
  MB_TRY(mbi_tensor_like(&dx, dout));
  mbi_view view = mbi_view_of(dout);
  mb_status status = mbi_kernels_of(dout)->rotary(mbi_data(dx), &view, p->base, p->first_position, -1);
  if (status == MB_OK) return mbi_give(node, 0, dx);
  mb_tensor_release(dx);
  return status;
}
