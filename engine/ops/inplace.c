// SPDX-License-Identifier: MIT
//
// inplace.c: changes of a tensor's own memory. They are not recorded; mbi_check_writable refuses them where
// the tape would notice. A source broadcasts to the destination. Where it overlaps the destination other
// than element on element, it is copied first, so that every element is computed from the values before.
// Tests: tests/c/test_inplace.c.
#include "ops/ops.h"

// First and last element of the storage that t covers.
static void extent(const mb_tensor *t, int64_t *first, int64_t *last) {
  *first = *last = t->offset;
  for (int d = 0; d < t->shape.ndim; d++) *last += (t->shape.size[d] - 1) * t->stride[d];
}

// May writing element i of t change element j != i of the source, seen in t's shape?
static int overlaps(const mb_tensor *t, const mb_tensor *source, const mbi_view *wide) {
  if (t->storage != source->storage) return 0;
  int64_t first, last, source_first, source_last;
  extent(t, &first, &last);
  extent(source, &source_first, &source_last);
  if (last < source_first || source_last < first) return 0;
  if (t->offset != source->offset) return 1;
  for (int d = 0; d < t->shape.ndim; d++)
    if (t->shape.size[d] != 1 && t->stride[d] != wide->stride[d]) return 1;
  return 0;
}

static mb_status check_fits(const char *who, const mb_tensor *t, const mb_tensor *source, const char *name) {
  int lead = t->shape.ndim - source->shape.ndim, fits = lead >= 0;
  for (int d = 0; fits && d < source->shape.ndim; d++)
    fits = source->shape.size[d] == 1 || source->shape.size[d] == t->shape.size[lead + d];
  char to[MBI_SHAPE_TEXT], from[MBI_SHAPE_TEXT];
  if (!fits)
    MB_FAIL(MB_ERR_SHAPE, "%s: %s is %s, which does not broadcast to t, %s", who, name,
            mbi_shape_text(from, source->shape.ndim, source->shape.size), mbi_shape_text(to, t->shape.ndim, t->shape.size));
  if (t->storage->device != source->storage->device) MB_FAIL(MB_ERR_DEVICE, "%s: the tensors are on different devices", who);
  return MB_OK;
}

// What every change by a second tensor begins with: the checks, then `view`, the source in t's shape. `held`
// is to be released afterwards.
static mb_status begin(mbi_view *view, mb_tensor **held, const char *who, mb_tensor *t, mb_tensor *source, const char *name) {
  *held = NULL;
  MB_TRY(check_fits(who, t, source, name));
  MB_TRY(mbi_check_writable(t, who));
  *view = mbi_view_broadcast(source, &t->shape);
  if (overlaps(t, source, view)) {
    MB_TRY(mbi_copy(held, source));
    *view = mbi_view_broadcast(*held, &t->shape);
  }
  return MB_OK;
}

static mb_status begin_float(mbi_view *view, mb_tensor **held, const char *who, mb_tensor *t, mb_tensor *a) {
  *held = NULL;
  MB_TRY(mbi_check_float(t, who, "t"));
  MB_TRY(mbi_check_float(a, who, "a"));
  if (t->dtype != a->dtype)
    MB_FAIL(MB_ERR_DTYPE, "%s: dtypes differ, t is %s, a is %s", who, mbi_dtype_name(t->dtype), mbi_dtype_name(a->dtype));
  return begin(view, held, who, t, a, "a");
}

mb_status mb_fill_(mb_tensor *t, double value) {
  MB_TRY(mbi_check(t, "mb_fill_", "t"));
  MB_TRY(mbi_check_writable(t, "mb_fill_"));
  return mbi_fill_view(t, value);
}

mb_status mb_copy_(mb_tensor *t, mb_tensor *source) {
  MB_TRY(mbi_check(t, "mb_copy_", "t"));
  MB_TRY(mbi_check(source, "mb_copy_", "source"));
  mb_tensor *cast, *held;
  if (source->dtype == t->dtype) mb_tensor_retain(cast = source);
  else MB_TRY(mbi_cast(&cast, source, t->dtype));
  if (cast->storage->device != t->storage->device) {
    mb_tensor *there;
    mb_status moved = mbi_moved(&there, cast, t->storage->device);
    mb_tensor_release(cast);
    MB_TRY(moved);
    cast = there;
  }
  mbi_view to = mbi_view_of(t), from;
  mb_status status = begin(&from, &held, "mb_copy_", t, cast, "source");
  if (status == MB_OK) status = mbi_memory_of(t)->copy_view(&to, &from, mbi_dtype_size(t->dtype));
  mb_tensor_release(held);
  mb_tensor_release(cast);
  return status;
}

mb_status mb_add_(mb_tensor *t, mb_tensor *a, double alpha) {
  mb_tensor *held;
  mbi_view x;
  MB_TRY(begin_float(&x, &held, "mb_add_", t, a));
  mbi_view y = mbi_view_of(t);
  mb_status status = mbi_kernels_of(t)->axpby(&y, &x, alpha, 1.0);
  mb_tensor_release(held);
  return status;
}

mb_status mb_mul_(mb_tensor *t, mb_tensor *a) {
  mb_tensor *held;
  mbi_view x;
  MB_TRY(begin_float(&x, &held, "mb_mul_", t, a));
  mbi_view y = mbi_view_of(t);
  mb_status status = mbi_kernels_of(t)->binary(MBI_MUL, &y, &y, &x);
  mb_tensor_release(held);
  return status;
}

mb_status mb_affine_(mb_tensor *t, double scale, double shift) {
  MB_TRY(mbi_check_float(t, "mb_affine_", "t"));
  MB_TRY(mbi_check_writable(t, "mb_affine_"));
  mbi_view y = mbi_view_of(t);
  return mbi_kernels_of(t)->unary(MBI_AFFINE, &y, &y, scale, shift);
}

// (1 - w) t + w a: weight 1 is an exact copy, weight 0 changes nothing.
mb_status mb_lerp_(mb_tensor *t, mb_tensor *a, double weight) {
  mb_tensor *held;
  mbi_view x;
  MB_TRY(begin_float(&x, &held, "mb_lerp_", t, a));
  mbi_view y = mbi_view_of(t);
  mb_status status = mbi_kernels_of(t)->axpby(&y, &x, weight, 1.0 - weight);
  mb_tensor_release(held);
  return status;
}
