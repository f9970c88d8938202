// SPDX-License-Identifier: MIT
//
// linear_cross_entropy.c: the cross entropy of the logits x W^T, x (..., C), W (V, C), which never exist as a whole. Rows go through
// in chunks, all in one buffer of (rows of a chunk, V), whose rows begin on boundaries. While the tape records, a chunk's logits
// become their gradient g in place, and are used up at once:
//
//   dx of the chunk = g W,   dW += g^T x
//
// so that there are as many operations as with all logits at once ("Liger Kernel", Hsu et al. 2024, arXiv 2410.10989). What a row's
// loss weighs is known before the first chunk: the device counts the targets. The loss is a sum over all rows in their order, whatever
// the chunks; dW is added up chunk by chunk, in float32 where the factors are bf16.
//
// Saved: dx and dW, for dL/d loss = 1; backward multiplies them with another one, and hands them on. They are not written where
// gradients are kept, though that would save dW: it is not known yet whether a backward follows, once, and with which dL/d loss.
// Tests: tests/c/test_linear_cross_entropy.c.
#include "ops/ops.h"
#include "ops/product.h"

static const char *const WHO = "mb_linear_cross_entropy";

static mb_status check(const mb_tensor *x, const mb_tensor *weight, const mb_tensor *targets, int64_t chunks,
                       const mb_cross_entropy_options *options) {
  MB_TRY(mbi_check_float(x, WHO, "x"));
  MB_TRY(mbi_check_float(weight, WHO, "weight"));
  MB_TRY(mbi_check_same(x, weight, WHO));
  char tx[MBI_SHAPE_TEXT], tw[MBI_SHAPE_TEXT];
  if (weight->shape.ndim != 2 || x->shape.ndim < 1 || x->shape.size[x->shape.ndim - 1] != weight->shape.size[1])
    MB_FAIL(MB_ERR_SHAPE, "%s: x is %s, weight is %s; x (..., in) and weight (classes, in) were expected", WHO,
            mbi_shape_text(tx, x->shape.ndim, x->shape.size), mbi_shape_text(tw, weight->shape.ndim, weight->shape.size));
  if (chunks < 1) MB_FAIL(MB_ERR_ARG, "%s: chunks is %lld, at least 1 was expected", WHO, (long long)chunks);
  return mbi_check_cross_entropy(x, "x", targets, options, WHO);
}

// All that a pass over the chunks works on.
typedef struct pass {
  mb_tensor *x, *weight, *ids;                       // contiguous
  mb_tensor *logits, *stats, *losses, *loss, *dx, *dw; // dx, dw: NULL where no gradient is wanted
  int64_t rows, classes, width, chunk;               // chunk: rows of one
} pass;

static mb_status new_rows(mb_tensor **out, const mb_tensor *like, mb_dtype dtype, int64_t rows, int64_t columns) {
  mbi_shape shape;
  const int64_t sizes[2] = {rows, columns};
  *out = NULL;
  MB_TRY(mbi_shape_make(&shape, WHO, 2, sizes));
  return mbi_tensor_new(out, like->storage->device, dtype, &shape);
}

static mb_status prepare(pass *p, mb_tensor *x, mb_tensor *weight) {
  mb_dtype wide = mbi_wide_dtype(x->dtype);
  mbi_shape scalar = {0};
  mb_tensor *const inputs[2] = {x, weight};
  MB_TRY(mbi_dense(&p->x, x));
  MB_TRY(mbi_dense(&p->weight, weight));
  MB_TRY(new_rows(&p->stats, x, wide, 2 * p->rows + 1, 1));
  MB_TRY(new_rows(&p->losses, x, MB_F64, p->rows, 1));
  MB_TRY(mbi_tensor_new(&p->loss, x->storage->device, wide, &scalar));
  if (mbi_will_record(inputs, 1)) MB_TRY(mbi_tensor_like(&p->dx, x));
  if (mbi_will_record(inputs + 1, 1)) MB_TRY(new_rows(&p->dw, x, wide, p->classes, p->width));
  return new_rows(&p->logits, x, x->dtype, p->chunk, mbi_aligned_columns(p->classes, x->dtype));
}

static void free_pass(pass *p) {
  mb_tensor *all[9] = {p->x, p->weight, p->ids, p->logits, p->stats, p->losses, NULL, p->dx, p->dw}; // not the loss
  for (int i = 0; i < 9; i++) mb_tensor_release(all[i]);
}

static char *rows_from(mb_tensor *t, int64_t row, int64_t columns) {
  return (char *)mbi_data(t) + (size_t)(row * columns) * mbi_dtype_size(t->dtype);
}

// Rows first .. first + count - 1: logits, losses, gradients.
static mb_status run_chunk(const pass *p, int64_t first, int64_t count, const mb_cross_entropy_options *o) {
  const mbi_kernels *k = mbi_kernels_of(p->x);
  int64_t V = p->classes, C = p->width, stride = p->logits->shape.size[1];
  void *logits = mbi_data(p->logits), *x = rows_from(p->x, first, C), *weight = mbi_data(p->weight);
  const mbi_gemm forward = {.m = count, .n = V, .k = C, .transpose_b = 1, .a = x, .lda = C, .b = weight, .ldb = C, .c = logits,
                            .ldc = stride, .alpha = 1, .batch = 1, .may_round = MBI_ROUNDS_IF_ALLOWED};
  MB_TRY(k->gemm(&forward));
  MB_TRY(k->cross_entropy(mbi_data(p->loss), mbi_data(p->stats), mbi_data(p->losses), logits, stride, p->dx || p->dw, mbi_data(p->ids),
                          p->rows, first, count, V, o->label_smoothing, mbi_ignored(o), o->reduction == MB_MEAN,
                          o->scale == 0 ? 1 : o->scale));
  if (p->dx) {
    const mbi_gemm g = {.m = count, .n = C, .k = V, .a = logits, .lda = stride, .b = weight, .ldb = C, .c = rows_from(p->dx, first, C),
                        .ldc = C, .alpha = 1, .batch = 1, .may_round = MBI_ROUNDS_IF_ALLOWED};
    MB_TRY(k->gemm(&g));
  }
  if (!p->dw) return MB_OK;
  const mbi_gemm g = {.m = V, .n = C, .k = count, .transpose_a = 1, .a = logits, .lda = stride, .b = x, .ldb = C, .c = mbi_data(p->dw),
                      .ldc = C, .alpha = 1, .beta = first > 0, .batch = 1, .may_round = MBI_ROUNDS_IF_ALLOWED,
                      .c_is_wide = p->dw->dtype != p->x->dtype};
  return k->gemm(&g);
}

mb_status mb_linear_cross_entropy(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *targets, int64_t chunks,
                                  const mb_cross_entropy_options *options) {
  const mb_cross_entropy_options defaults = {.ignore_index = -1};
  *out = NULL;
  if (!options) options = &defaults;
  MB_TRY(check(x, weight, targets, chunks, options));
  pass p = {.classes = weight->shape.size[0], .width = weight->shape.size[1]};
  p.rows = mbi_numel(x) / p.width;
  p.chunk = chunks >= p.rows ? 1 : (p.rows + chunks - 1) / chunks;
  mb_tensor *inputs[2] = {x, weight};
  MB_TRY(mbi_ids(&p.ids, targets, p.classes, mbi_ignored(options), mbi_will_record(inputs, 2), WHO, "targets", "classes"));
  mb_status status = prepare(&p, x, weight);
  for (int64_t first = 0; first < p.rows && status == MB_OK; first += p.chunk)
    status = run_chunk(&p, first, p.rows - first < p.chunk ? p.rows - first : p.chunk, options);
  mb_tensor *saved[2] = {p.dx, p.dw};
  status = mbi_finish(out, p.loss, status, MBI_OP_linear_cross_entropy, inputs, 2, saved, 2, NULL, 0);
  free_pass(&p);
  return status;
}

// The tape alone has what it saved: it becomes the gradient for this dL/d loss, which as a rule is 1 and costs nothing.
static mb_status multiply(mb_tensor *gradient, mb_tensor *dout) {
  int64_t columns = gradient->shape.size[gradient->shape.ndim - 1];
  void *values = mbi_data(gradient);
  return mbi_kernels_of(gradient)->cross_entropy_backward(values, 0, mbi_data(dout), values, columns, NULL, NULL,
                                                          mbi_numel(gradient) / columns, columns, 0, MBI_NONE_IGNORED);
}

static mb_status give_weight(mbi_node *node, mb_tensor *dw) {
  mb_tensor *sink, *same = NULL;
  int accumulate;
  MB_TRY(mbi_sink_wide(&sink, &accumulate, node, 1));
  mb_status status = MB_OK;
  if (sink->dtype == dw->dtype) mb_tensor_retain(same = dw);
  else status = mbi_cast(&same, dw, sink->dtype);
  if (status == MB_OK) {
    mbi_view to = mbi_view_of(sink), from = mbi_view_of(same);
    status = mbi_kernels_of(sink)->axpby(&to, &from, 1, accumulate);
  }
  mb_tensor_release(same);
  mb_tensor_release(sink);
  return status;
}

mb_status mbi_linear_cross_entropy_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *dx = mbi_saved_tensor(node, 0), *dw = mbi_saved_tensor(node, 1);
  if (dw && mbi_needs(node, 1)) {
    MB_TRY(multiply(dw, dout));
    MB_TRY(give_weight(node, dw));
  }
  if (!dx || !mbi_needs(node, 0)) return MB_OK;
  MB_TRY(multiply(dx, dout));
  mb_tensor_retain(dx);
  return mbi_give(node, 0, dx);
}
