// SPDX-License-Identifier: MIT
//
// cross_entropy.c: softmax and negative log likelihood in one op, over logits (..., V) and integer targets
// of the leading shape. Label smoothing, ignored targets and reductions are PyTorch's. The mean divides by
// the number of targets not ignored; when all are, it is 0/0 = NaN, as in PyTorch, and the gradient is zero.
//
// Saved: the logits, and maximum and sum of exponentials of each row. Backward turns the logits into their
// gradient in place when nobody but the tape holds them, so that a training step has one (rows, V) buffer,
// the largest there is. Where the caller gives the logits up, the loss does so while it reads them, and backward has nothing
// left to do if dL/d loss is 1; the bits are the same. Rows may begin further apart than V (mb_linear_aligned).
// Tests: tests/c/test_cross_entropy.c.
#include "ops/ops.h"

typedef struct cross_entropy_params {
  double smoothing;
  int64_t ignored;
} cross_entropy_params;

mb_status mbi_check_cross_entropy(const mb_tensor *x, const char *name, const mb_tensor *targets, const mb_cross_entropy_options *options,
                                  const char *who) {
  MB_TRY(mbi_check_float(x, who, name));
  MB_TRY(mbi_check(targets, who, "targets"));
  char text[MBI_SHAPE_TEXT], other[MBI_SHAPE_TEXT];
  mbi_shape leading = x->shape;
  leading.ndim--;
  if (leading.ndim < 0 || !mbi_shape_equal(&leading, &targets->shape))
    MB_FAIL(MB_ERR_SHAPE, "%s: %s has shape %s, targets %s; all but the last dimension of %s was expected", who, name,
            mbi_shape_text(text, x->shape.ndim, x->shape.size), mbi_shape_text(other, targets->shape.ndim, targets->shape.size), name);
  if (x->storage->device != targets->storage->device) MB_FAIL(MB_ERR_DEVICE, "%s: %s and targets are on different devices", who, name);
  if (!(options->label_smoothing >= 0 && options->label_smoothing < 1))
    MB_FAIL(MB_ERR_ARG, "%s: label_smoothing is %g, a number >= 0 and < 1 was expected", who, options->label_smoothing);
  if (!(options->scale > -1e30 && options->scale < 1e30))
    MB_FAIL(MB_ERR_ARG, "%s: scale is %g, a finite number was expected", who, options->scale);
  if (options->reduction != MB_MEAN && options->reduction != MB_SUM)
    MB_FAIL(MB_ERR_ARG, "%s: unknown reduction %d, MB_MEAN or MB_SUM was expected", who, (int)options->reduction);
  return MB_OK;
}

// Rows of V neighbours, equally far apart? Then *stride says how far.
static int has_rows(const mb_tensor *t, int64_t *stride) {
  int last = t->shape.ndim - 1;
  *stride = t->shape.size[last];
  if (mbi_is_contiguous(t)) return 1;
  if (t->stride[last] != 1) return 0;
  int64_t expected = 0; // of the next dimension to the left, from the innermost that is longer than 1
  for (int d = last - 1; d >= 0; d--) {
    if (t->shape.size[d] == 1) continue;
    if (expected == 0) *stride = expected = t->stride[d];
    if (t->stride[d] != expected) return 0;
    expected *= t->shape.size[d];
  }
  return *stride >= t->shape.size[last];
}

// The logits, or a copy that has rows.
static mb_status rows_of(mb_tensor **out, int64_t *stride, mb_tensor *logits) {
  if (has_rows(logits, stride)) {
    mb_tensor_retain(*out = logits);
    return MB_OK;
  }
  *stride = logits->shape.size[logits->shape.ndim - 1];
  return mbi_dense(out, logits);
}

// Nobody but the caller could see that the logits are no more.
static int may_overwrite(mb_tensor *logits) {
  return mbi_will_record(&logits, 1) && logits->node && logits->refs == 1 && logits->storage->refs == 1 && logits->storage->pins == 0;
}

mb_status mb_cross_entropy(mb_tensor **out, mb_tensor *logits, mb_tensor *targets, const mb_cross_entropy_options *options) {
  static const mb_cross_entropy_options defaults = {0, -1, MB_MEAN, 1, 0};
  *out = NULL;
  if (!options) options = &defaults;
  MB_TRY(mbi_check_cross_entropy(logits, "logits", targets, options, "mb_cross_entropy"));
  int64_t columns = logits->shape.size[logits->shape.ndim - 1], rows = mbi_numel(logits) / columns, stride;
  cross_entropy_params params = {options->label_smoothing, mbi_ignored(options)};
  int overwrites = options->overwrites && may_overwrite(logits);
  mb_tensor *ids, *dense = NULL, *stats = NULL, *loss = NULL;
  MB_TRY(mbi_ids(&ids, targets, columns, params.ignored, mbi_will_record(&logits, 1), "mb_cross_entropy", "targets", "classes"));
  mbi_shape scalar = {0}, stats_shape = {.ndim = 1, .size = {2 * rows + 1}};
  mb_status status = rows_of(&dense, &stride, logits);
  if (status == MB_OK) status = mbi_tensor_new(&stats, logits->storage->device, mbi_wide_dtype(logits->dtype), &stats_shape);
  if (status == MB_OK) status = mbi_tensor_new(&loss, logits->storage->device, mbi_wide_dtype(logits->dtype), &scalar);
  if (status == MB_OK) {
    if (overwrites) mbi_touch(dense);
    status = mbi_kernels_of(logits)->cross_entropy(mbi_data(loss), mbi_data(stats), NULL, mbi_data(dense), stride, overwrites, mbi_data(ids), rows,
                                                   0, rows, columns, params.smoothing, params.ignored, options->reduction == MB_MEAN,
                                                   options->scale == 0 ? 1 : options->scale);
    mb_tensor *saved[3] = {dense, overwrites ? NULL : stats, ids};
    status = mbi_finish(out, loss, status, MBI_OP_cross_entropy, &logits, 1, saved, 3, &params, sizeof params);
  }
  mb_tensor_release(stats);
  mb_tensor_release(dense);
  mb_tensor_release(ids);
  return status;
}

mb_status mbi_cross_entropy_backward(mbi_node *node, mb_tensor *dout) {
  const cross_entropy_params *p = (const cross_entropy_params *)node->params;
  mb_tensor *logits = mbi_saved_tensor(node, 0), *stats = mbi_saved_tensor(node, 1), *ids = mbi_saved_tensor(node, 2), *dx;
  int64_t columns = logits->shape.size[logits->shape.ndim - 1], rows = mbi_numel(logits) / columns, stride;
  has_rows(logits, &stride);
  int accumulate = 0, in_place = !stats || mbi_saved_is_exclusive(node, 0);
  if (in_place) mb_tensor_retain(dx = logits);
  else MB_TRY(mbi_sink(&dx, &accumulate, node, 0));
  mb_status status =
    mbi_kernels_of(logits)->cross_entropy_backward(mbi_data(dx), accumulate, mbi_data(dout), mbi_data(logits), stride,
                                                   stats ? mbi_data(stats) : NULL, mbi_data(ids), rows, columns, p->smoothing, p->ignored);
  if (status == MB_OK && in_place) return mbi_give(node, 0, dx);
  mb_tensor_release(dx);
  return status;
}
