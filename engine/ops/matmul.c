// SPDX-License-Identifier: MIT
//
// matmul.c: C = op(A) op(B) over the last two dimensions, leading dimensions broadcast.
//
// Backward, G = dL/dC, with A and B as stored:
//   dA = G op(B)^T, or op(B) G^T if A was transposed      dB = op(A)^T G, or G^T op(A) if B was transposed
// summed over the leading dimensions that were stretched, and written or added where the tape wants it.
#include "ops/ops.h"
#include "ops/product.h"

typedef struct matmul_params {
  int transpose_a, transpose_b;
} matmul_params;

static mb_status check(mbi_shape *shape, const mb_tensor *a, const mb_tensor *b, const matmul_params *p) {
  char ta[MBI_SHAPE_TEXT], tb[MBI_SHAPE_TEXT];
  mbi_shape_text(ta, a->shape.ndim, a->shape.size), mbi_shape_text(tb, b->shape.ndim, b->shape.size);
  if (a->shape.ndim < 2 || b->shape.ndim < 2)
    MB_FAIL(MB_ERR_SHAPE, "mb_matmul: a is %s, b is %s; both need two dimensions or more", ta, tb);
  const int64_t *sa = a->shape.size + a->shape.ndim - 2, *sb = b->shape.size + b->shape.ndim - 2;
  int64_t k = sa[p->transpose_a ? 0 : 1], other = sb[p->transpose_b ? 1 : 0];
  if (k != other)
    MB_FAIL(MB_ERR_SHAPE, "mb_matmul: a is %s%s, b is %s%s: %lld columns meet %lld rows", ta, p->transpose_a ? " transposed" : "", tb,
            p->transpose_b ? " transposed" : "", (long long)k, (long long)other);
  mbi_shape la = {.ndim = a->shape.ndim - 2}, lb = {.ndim = b->shape.ndim - 2};
  for (int d = 0; d < la.ndim; d++) la.size[d] = a->shape.size[d];
  for (int d = 0; d < lb.ndim; d++) lb.size[d] = b->shape.size[d];
  mbi_shape lead;
  if (mbi_shape_broadcast(&lead, "mb_matmul", &la, &lb) != MB_OK)
    MB_FAIL(MB_ERR_SHAPE, "mb_matmul: a is %s, b is %s: their leading dimensions do not fit", ta, tb);
  lead.size[lead.ndim] = sa[p->transpose_a ? 1 : 0];
  lead.size[lead.ndim + 1] = sb[p->transpose_b ? 0 : 1];
  return mbi_shape_make(shape, "mb_matmul", lead.ndim + 2, lead.size);
}

// c = op(x) op(y); the last two sizes of `full` are not looked at.
static mb_status multiply(mb_tensor *c, int accumulate, mb_tensor *x, int transpose_x, mb_tensor *y, int transpose_y,
                          const mbi_shape *full) {
  mbi_operand to = {0}, a = {0}, b = {0};
  int n_lead = full->ndim - 2;
  mb_status status = mbi_operand_make(&to, c, 0, n_lead, full->size);
  if (status == MB_OK) status = mbi_operand_make(&a, x, transpose_x, n_lead, full->size);
  if (status == MB_OK) status = mbi_operand_make(&b, y, transpose_y, n_lead, full->size);
  if (status == MB_OK) status = mbi_multiply(&to, &a, &b, NULL, accumulate, n_lead, full->size);
  mbi_operand_free(&to), mbi_operand_free(&a), mbi_operand_free(&b);
  return status;
}

mb_status mb_matmul(mb_tensor **out, mb_tensor *a, mb_tensor *b, int transpose_a, int transpose_b) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, "mb_matmul", "a"));
  MB_TRY(mbi_check_float(b, "mb_matmul", "b"));
  MB_TRY(mbi_check_same(a, b, "mb_matmul"));
  matmul_params p = {transpose_a != 0, transpose_b != 0};
  mbi_shape shape;
  MB_TRY(check(&shape, a, b, &p));
  mb_tensor *c, *inputs[2] = {a, b};
  MB_TRY(mbi_tensor_new(&c, a->storage->device, a->dtype, &shape));
  mb_status status = multiply(c, 0, a, p.transpose_a, b, p.transpose_b, &shape);
  mb_tensor *saved[2] = {mb_requires_grad(b) ? a : NULL, mb_requires_grad(a) ? b : NULL};
  return mbi_finish(out, c, status, MBI_OP_matmul, inputs, 2, saved, 2, &p, sizeof p);
}

mb_status mbi_matmul_backward(mbi_node *node, mb_tensor *dout) {
  const matmul_params *p = (const matmul_params *)node->params;
  mb_tensor *a = mbi_saved_tensor(node, 0), *b = mbi_saved_tensor(node, 1);
  for (int input = 0; input < 2; input++) {
    if (!mbi_needs(node, input)) continue;
    mb_tensor *dx;
    int accumulate;
    MB_TRY(mbi_sink(&dx, &accumulate, node, input));
    mb_status status;
    if (input == 0 && !p->transpose_a) status = multiply(dx, accumulate, dout, 0, b, !p->transpose_b, &dout->shape);
    else if (input == 0) status = multiply(dx, accumulate, b, p->transpose_b, dout, 1, &dout->shape);
    else if (!p->transpose_b) status = multiply(dx, accumulate, a, !p->transpose_a, dout, 0, &dout->shape);
    else status = multiply(dx, accumulate, dout, 1, a, p->transpose_a, &dout->shape);
    mb_tensor_release(dx);
    MB_TRY(status);
  }
  return MB_OK;
}
