// SPDX-License-Identifier: MIT
//
// attention.c: causal attention, softmax(scale q k^T) v with keys up to the query's own position, over
// q, k, v (B, T, H, D) or over one (B, T, 3 C) tensor that holds them side by side, C = H D. The kernel takes
// strides, so that views and packed inputs are read where they lie and packed gradients are written in place.
//
// Kept for backward: the inputs, the output and, for each query, the log of its sum of exponentials (B, H, T),
// from which the probabilities are computed again. No (T, T) matrix exists.
#include <math.h>

#include "ops/ops.h"

// Bytes of one element times an offset in elements, added to element 0's address.
static void *at(const mb_tensor *t, int64_t offset) { return (char *)mbi_data(t) + offset * (int64_t)mbi_dtype_size(t->dtype); }

// (B, T, H, D) with unit stride in D.
static mbi_heads heads_of(const mb_tensor *t) { return (mbi_heads){mbi_data(t), t->stride[0], t->stride[1], t->stride[2]}; }

// Part 0 to 2 (q, k, v) of a contiguous (B, T, 3 C) tensor.
static mbi_heads packed_heads_of(const mb_tensor *t, int part, const mbi_attention *s) {
  int64_t c = s->heads * s->width;
  return (mbi_heads){at(t, part * c), s->time * 3 * c, 3 * c, s->width};
}

// A (B, T, C) or (B, T, H, D) contiguous tensor.
static mbi_heads dense_heads_of(const mb_tensor *t, const mbi_attention *s) {
  int64_t c = s->heads * s->width;
  return (mbi_heads){mbi_data(t), s->time * c, c, s->width};
}

static mb_status make_lse(mb_tensor **lse, const mb_tensor *like, const mbi_attention *s) {
  mbi_shape shape = {.ndim = 3, .size = {s->batch, s->heads, s->time}};
  return mbi_tensor_new(lse, like->storage->device, mbi_wide_dtype(like->dtype), &shape);
}

static mb_status check_scale(double *scale, const char *who, int64_t width) {
  if (!isfinite(*scale)) MB_FAIL(MB_ERR_ARG, "%s: scale is %g, a finite number was expected", who, *scale);
  if (*scale == 0) *scale = 1 / sqrt((double)width);
  return MB_OK;
}

// ----- q, k, v apart ------------------------------------------------------------------------------------

static mb_status check_inputs(mb_tensor *q, mb_tensor *k, mb_tensor *v) {
  MB_TRY(mbi_check_float(q, "mb_attention", "q"));
  MB_TRY(mbi_check_float(k, "mb_attention", "k"));
  MB_TRY(mbi_check_float(v, "mb_attention", "v"));
  MB_TRY(mbi_check_same(q, k, "mb_attention"));
  MB_TRY(mbi_check_same(q, v, "mb_attention"));
  char tq[MBI_SHAPE_TEXT], tk[MBI_SHAPE_TEXT], tv[MBI_SHAPE_TEXT];
  if (q->shape.ndim != 4 || !mbi_shape_equal(&q->shape, &k->shape) || !mbi_shape_equal(&q->shape, &v->shape))
    MB_FAIL(MB_ERR_SHAPE, "mb_attention: q is %s, k is %s, v is %s; one shape (B, T, H, D) was expected",
            mbi_shape_text(tq, q->shape.ndim, q->shape.size), mbi_shape_text(tk, k->shape.ndim, k->shape.size),
            mbi_shape_text(tv, v->shape.ndim, v->shape.size));
  return MB_OK;
}

// The tensor itself if D has unit stride, else a contiguous copy; a new reference.
static mb_status with_unit_stride(mb_tensor **out, mb_tensor *t) {
  if (t->stride[3] != 1 && t->shape.size[3] != 1) return mbi_dense(out, t);
  mb_tensor_retain(t);
  *out = t;
  return MB_OK;
}

mb_status mb_attention(mb_tensor **out, mb_tensor *q, mb_tensor *k, mb_tensor *v, double scale) {
  *out = NULL;
  MB_TRY(check_inputs(q, k, v));
  MB_TRY(check_scale(&scale, "mb_attention", q->shape.size[3]));
  mbi_attention s = {q->shape.size[0], q->shape.size[1], q->shape.size[2], q->shape.size[3], scale};
  mb_tensor *inputs[3] = {q, k, v}, *x[3] = {NULL}, *lse = NULL, *result;
  MB_TRY(mbi_tensor_like(&result, q));
  mb_status status = mbi_will_record(inputs, 3) ? make_lse(&lse, q, &s) : MB_OK;
  for (int i = 0; i < 3 && status == MB_OK; i++) status = with_unit_stride(&x[i], inputs[i]);
  if (status == MB_OK) {
    mbi_heads to = heads_of(result), from[3] = {heads_of(x[0]), heads_of(x[1]), heads_of(x[2])};
    status = mbi_kernels_of(q)->attention(&s, &to, lse ? mbi_data(lse) : NULL, &from[0], &from[1], &from[2]);
  }
  mb_tensor *saved[5] = {x[0], x[1], x[2], result, lse};
  status = mbi_finish(out, result, status, MBI_OP_attention, inputs, 3, saved, 5, &s, sizeof s);
  for (int i = 0; i < 3; i++) mb_tensor_release(x[i]);
  mb_tensor_release(lse);
  return status;
}

mb_status mbi_attention_backward(mbi_node *node, mb_tensor *dout) {
  const mbi_attention *s = (const mbi_attention *)node->params;
  mb_tensor *x[3], *dx[3] = {NULL}, *out = mbi_saved_tensor(node, 3), *lse = mbi_saved_tensor(node, 4);
  mbi_attention_gradients g = {.dout = dense_heads_of(dout, s), .out = dense_heads_of(out, s)};
  mbi_heads *to[3] = {&g.dq, &g.dk, &g.dv};
  mb_status status = MB_OK;
  for (int i = 0; i < 3 && status == MB_OK; i++) {
    x[i] = mbi_saved_tensor(node, i);
    if (!mbi_needs(node, i)) continue;
    status = mbi_tensor_like(&dx[i], dout);
    if (status == MB_OK) *to[i] = heads_of(dx[i]);
  }
  if (status == MB_OK) {
    mbi_heads from[3] = {heads_of(x[0]), heads_of(x[1]), heads_of(x[2])};
    status = mbi_kernels_of(dout)->attention_backward(s, &g, mbi_data(lse), &from[0], &from[1], &from[2]);
  }
  for (int i = 0; i < 3; i++) {
    if (!dx[i]) continue;
    if (status == MB_OK) status = mbi_give(node, i, dx[i]);
    else mb_tensor_release(dx[i]);
  }
  return status;
}

// ----- q, k, v side by side -------------------------------------------------------------------------------

mb_status mb_attention_packed(mb_tensor **out, mb_tensor *qkv, int64_t n_head, double scale) {
  *out = NULL;
  MB_TRY(mbi_check_float(qkv, "mb_attention_packed", "qkv"));
  char text[MBI_SHAPE_TEXT];
  mbi_shape_text(text, qkv->shape.ndim, qkv->shape.size);
  if (n_head < 1) MB_FAIL(MB_ERR_ARG, "mb_attention_packed: n_head is %lld, at least 1 was expected", (long long)n_head);
  if (qkv->shape.ndim != 3 || qkv->shape.size[2] % 3 != 0)
    MB_FAIL(MB_ERR_SHAPE, "mb_attention_packed: qkv is %s, (B, T, 3 C) was expected", text);
  int64_t c = qkv->shape.size[2] / 3;
  if (c % n_head != 0)
    MB_FAIL(MB_ERR_SHAPE, "mb_attention_packed: qkv is %s, so C is %lld, which %lld heads do not divide", text, (long long)c,
            (long long)n_head);
  MB_TRY(check_scale(&scale, "mb_attention_packed", c / n_head));
  mbi_attention s = {qkv->shape.size[0], qkv->shape.size[1], n_head, c / n_head, scale};
  mbi_shape shape = {.ndim = 3, .size = {s.batch, s.time, c}};
  mb_tensor *result, *dense = NULL, *lse = NULL;
  MB_TRY(mbi_tensor_new(&result, qkv->storage->device, qkv->dtype, &shape));
  mb_status status = mbi_dense(&dense, qkv);
  if (status == MB_OK && mbi_will_record(&qkv, 1)) status = make_lse(&lse, qkv, &s);
  if (status == MB_OK) {
    mbi_heads to = dense_heads_of(result, &s), q = packed_heads_of(dense, 0, &s), k = packed_heads_of(dense, 1, &s),
              v = packed_heads_of(dense, 2, &s);
    status = mbi_kernels_of(qkv)->attention(&s, &to, lse ? mbi_data(lse) : NULL, &q, &k, &v);
  }
  mb_tensor *saved[3] = {dense, result, lse};
  status = mbi_finish(out, result, status, MBI_OP_attention_packed, &qkv, 1, saved, 3, &s, sizeof s);
  mb_tensor_release(dense), mb_tensor_release(lse);
  return status;
}

mb_status mbi_attention_packed_backward(mbi_node *node, mb_tensor *dout) {
  const mbi_attention *s = (const mbi_attention *)node->params;
  mb_tensor *qkv = mbi_saved_tensor(node, 0), *out = mbi_saved_tensor(node, 1), *lse = mbi_saved_tensor(node, 2), *dqkv;
  MB_TRY(mbi_tensor_like(&dqkv, qkv));
  mbi_attention_gradients g = {.dout = dense_heads_of(dout, s), .out = dense_heads_of(out, s), .dq = packed_heads_of(dqkv, 0, s),
                               .dk = packed_heads_of(dqkv, 1, s), .dv = packed_heads_of(dqkv, 2, s)};
  mbi_heads q = packed_heads_of(qkv, 0, s), k = packed_heads_of(qkv, 1, s), v = packed_heads_of(qkv, 2, s);
  mb_status status = mbi_kernels_of(dout)->attention_backward(s, &g, mbi_data(lse), &q, &k, &v);
  if (status == MB_OK) return mbi_give(node, 0, dqkv);
  mb_tensor_release(dqkv);
  return status;
}
