// SPDX-License-Identifier: MIT
//
// norms.h: what the ops of layernorm.c and rmsnorm.c share.
#ifndef MBI_NORMS_H
#define MBI_NORMS_H
#include "ops/ops.h"

static inline void *mbi_data_or_null(const mb_tensor *t) { return t ? mbi_data(t) : NULL; }

// What x and a parameter of the last dimension's size (or NULL) must be.
static inline mb_status mbi_norm_check_row(const mb_tensor *t, const mb_tensor *x, const char *who, const char *argument) {
  if (!t) return MB_OK;
  MB_TRY(mbi_check_float(t, who, argument));
  MB_TRY(mbi_check_same(x, t, who));
  char text[MBI_SHAPE_TEXT], other[MBI_SHAPE_TEXT];
  int64_t columns = x->shape.size[x->shape.ndim - 1];
  if (t->shape.ndim != 1 || t->shape.size[0] != columns)
    MB_FAIL(MB_ERR_SHAPE, "%s: %s has shape %s, (%lld) was expected for x of shape %s", who, argument,
            mbi_shape_text(text, t->shape.ndim, t->shape.size), (long long)columns, mbi_shape_text(other, x->shape.ndim, x->shape.size));
  return MB_OK;
}

// `added` (or NULL) is added to x without stretching either.
static inline mb_status mbi_norm_check(const mb_tensor *x, const mb_tensor *added, double epsilon, const char *who) {
  MB_TRY(mbi_check_float(x, who, "x"));
  if (x->shape.ndim < 1) MB_FAIL(MB_ERR_SHAPE, "%s: x has no dimension to normalise over", who);
  if (!(epsilon >= 0)) MB_FAIL(MB_ERR_ARG, "%s: epsilon is %g, a number >= 0 was expected", who, epsilon);
  if (!added) return MB_OK;
  MB_TRY(mbi_check_float(added, who, "added"));
  MB_TRY(mbi_check_same(x, added, who));
  char text[MBI_SHAPE_TEXT], other[MBI_SHAPE_TEXT];
  if (!mbi_shape_equal(&x->shape, &added->shape))
    MB_FAIL(MB_ERR_SHAPE, "%s: x has shape %s, added %s; the same was expected", who, mbi_shape_text(text, x->shape.ndim, x->shape.size),
            mbi_shape_text(other, added->shape.ndim, added->shape.size));
  return MB_OK;
}

// The tensors of a forward pass; those that are not there are NULL.
typedef struct mbi_norm {
  mb_tensor *x, *added, *weight, *bias; // contiguous
  mb_tensor *sum, *mean, *rstd, *y;
  int64_t rows, columns;
} mbi_norm;
// Makes contiguous inputs and, but for mean and rstd, the outputs. Free with mbi_norm_free, also after a failure.
mb_status mbi_norm_make(mbi_norm *n, mb_tensor *x, mb_tensor *added, mb_tensor *weight, mb_tensor *bias);
// (rows) numbers of the wide dtype.
mb_status mbi_norm_statistic(mb_tensor **out, const mbi_norm *n);
void mbi_norm_free(mbi_norm *n);
// sum = x + added as the tape has it: an addition of its own, which the norm of the sum comes after. Its backward is none: the gradient
// that the norm has added its part to goes to both.
mb_status mbi_norm_record_sum(mbi_norm *n, mb_tensor *x, mb_tensor *added);
#endif
