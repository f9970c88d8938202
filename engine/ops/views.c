// SPDX-License-Identifier: MIT
//
// views.c: new views of the same memory (detach, reshape, transpose, permute, slice, expand).
//
// A view costs a header, forward and backward: the gradient of a reshape or a permutation is the same view
// undone, that of an expansion a sum, and that of a slice is added into the gradient of the whole, so that
// k slices of one tensor do not make k gradients of its size. Of first dimensions of a model's weight in bf16 it
// can be written there in float32 by the op that the slice went into. Tests: tests/ops/, tests/c/test_views.c.
#include <string.h>

#include "ops/ops.h"

// Records a view that saves nothing. `made` is the status of making it; it is released on failure.
static mb_status finish_view(mb_tensor **out, mb_tensor *view, mb_status made, mbi_op op, mb_tensor *a, const void *params, size_t bytes) {
  *out = NULL;
  MB_TRY(made);
  return mbi_finish(out, view, MB_OK, op, &a, 1, NULL, 0, params, bytes);
}

mb_status mb_detach(mb_tensor **out, mb_tensor *a) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_detach", "a"));
  return mbi_tensor_alias(out, a);
}

// ----- reshape --------------------------------------------------------------------------------------

// The shape asked for, with a -1 replaced by what is left over.
static mb_status wanted_shape(mbi_shape *out, const mb_tensor *a, int ndim, const int64_t *shape) {
  if (ndim < 0 || ndim > MB_MAX_DIMS)
    MB_FAIL(MB_ERR_SHAPE, "mb_reshape: a tensor has 0 to %d dimensions, not %d", MB_MAX_DIMS, ndim);
  int64_t size[MB_MAX_DIMS] = {0}, known = 1, numel = mbi_numel(a);
  int free_dim = -1;
  char from[MBI_SHAPE_TEXT], to[MBI_SHAPE_TEXT];
  for (int i = 0; i < ndim; i++) {
    size[i] = shape[i];
    if (shape[i] == -1 && free_dim < 0) free_dim = i;
    else if (shape[i] < 1)
      MB_FAIL(MB_ERR_SHAPE, "mb_reshape: shape %s needs sizes above 0, and at most one -1", mbi_shape_text(to, ndim, shape));
    else if (__builtin_mul_overflow(known, shape[i], &known)) known = INT64_MAX; // then it cannot divide numel
  }
  if (free_dim >= 0 && numel % known == 0) size[free_dim] = numel / known;
  int fits = free_dim >= 0 ? numel % known == 0 : known == numel;
  if (!fits)
    MB_FAIL(MB_ERR_SHAPE, "mb_reshape: %s has %lld elements, which do not make %s", mbi_shape_text(from, a->shape.ndim, a->shape.size),
            (long long)numel, mbi_shape_text(to, ndim, shape));
  return mbi_shape_make(out, "mb_reshape", ndim, size);
}

// Strides of a view of shape `to` on t's memory; 0 if none exists. t's dimensions are taken from the last,
// in runs that memory passes through evenly; each run must be filled exactly by sizes of `to`.
static int view_strides(int64_t *stride, const mb_tensor *t, const mbi_shape *to) {
  int next = to->ndim - 1; // size of `to` to be placed
  int64_t run = 1, step = t->shape.ndim > 0 ? t->stride[t->shape.ndim - 1] : 1;
  for (int d = t->shape.ndim - 1; d >= 0; d--) {
    run *= t->shape.size[d];
    int ends = d == 0 || (t->shape.size[d - 1] != 1 && t->stride[d - 1] != run * step);
    if (!ends) continue;
    int64_t filled = 1;
    while (next >= 0 && (filled < run || to->size[next] == 1)) {
      stride[next] = filled * step;
      filled *= to->size[next--];
    }
    if (filled != run) return 0;
    run = 1;
    if (d > 0) step = t->stride[d - 1];
  }
  for (; next >= 0; next--) stride[next] = 1; // only sizes of 1 are left
  return 1;
}

mb_status mb_reshape(mb_tensor **out, mb_tensor *a, int ndim, const int64_t *shape) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_reshape", "a"));
  mbi_shape to = {0};
  MB_TRY(wanted_shape(&to, a, ndim, shape));
  int64_t stride[MB_MAX_DIMS];
  mb_tensor *view, *copy = NULL;
  if (!view_strides(stride, a, &to)) {
    MB_TRY(mbi_dense(&copy, a));
    mbi_shape_contiguous_strides(&to, stride);
  }
  mb_status status = mbi_tensor_view(&view, copy ? copy : a, &to, stride, 0);
  mb_tensor_release(copy);
  return finish_view(out, view, status, MBI_OP_reshape, a, NULL, 0);
}

mb_status mbi_reshape_backward(mbi_node *node, mb_tensor *dout) {
  const mbi_shape *shape = &node->edges[0].shape;
  int64_t stride[MB_MAX_DIMS];
  mbi_shape_contiguous_strides(shape, stride);
  mb_tensor *dx;
  MB_TRY(mbi_tensor_view(&dx, dout, shape, stride, 0));
  return mbi_give(node, 0, dx);
}

// ----- transpose, permute -----------------------------------------------------------------------------

typedef struct permute_params {
  int dims[MB_MAX_DIMS]; // dimension i of the result is dimension dims[i] of the input
} permute_params;

static mb_status permuted(mb_tensor **out, const mb_tensor *a, const permute_params *p) {
  mbi_shape shape = {.ndim = a->shape.ndim};
  int64_t stride[MB_MAX_DIMS];
  for (int i = 0; i < shape.ndim; i++) {
    shape.size[i] = a->shape.size[p->dims[i]];
    stride[i] = a->stride[p->dims[i]];
  }
  return mbi_tensor_view(out, a, &shape, stride, 0);
}

mb_status mb_permute(mb_tensor **out, mb_tensor *a, int ndim, const int *dims) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_permute", "a"));
  if (ndim != a->shape.ndim) MB_FAIL(MB_ERR_ARG, "mb_permute: %d dimensions were given, the tensor has %d", ndim, a->shape.ndim);
  permute_params p = {{0}};
  unsigned seen = 0;
  for (int i = 0; i < ndim; i++) {
    MB_TRY(mbi_dim(&p.dims[i], "mb_permute", dims[i], ndim));
    if (seen >> p.dims[i] & 1) MB_FAIL(MB_ERR_ARG, "mb_permute: dimension %d is given twice", dims[i]);
    seen |= 1u << p.dims[i];
  }
  mb_tensor *view;
  mb_status status = permuted(&view, a, &p);
  return finish_view(out, view, status, MBI_OP_permute, a, &p, sizeof p);
}

mb_status mb_transpose(mb_tensor **out, mb_tensor *a, int dim0, int dim1) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_transpose", "a"));
  permute_params p = {{0}};
  for (int i = 0; i < a->shape.ndim; i++) p.dims[i] = i;
  int x, y;
  MB_TRY(mbi_dim(&x, "mb_transpose", dim0, a->shape.ndim));
  MB_TRY(mbi_dim(&y, "mb_transpose", dim1, a->shape.ndim));
  p.dims[x] = y;
  p.dims[y] = x;
  mb_tensor *view;
  mb_status status = permuted(&view, a, &p);
  return finish_view(out, view, status, MBI_OP_permute, a, &p, sizeof p);
}

mb_status mbi_permute_backward(mbi_node *node, mb_tensor *dout) {
  const permute_params *p = (const permute_params *)node->params;
  permute_params inverse = {{0}};
  for (int i = 0; i < dout->shape.ndim; i++) inverse.dims[p->dims[i]] = i;
  mb_tensor *dx;
  MB_TRY(permuted(&dx, dout, &inverse));
  return mbi_give(node, 0, dx);
}

// ----- slice ------------------------------------------------------------------------------------------

typedef struct slice_params {
  int dim;
  int64_t start, stop, step;
} slice_params;

static mb_status sliced(mb_tensor **out, const mb_tensor *a, int dim, int64_t start, int64_t stop, int64_t step) {
  mbi_shape shape = a->shape;
  int64_t stride[MB_MAX_DIMS];
  memcpy(stride, a->stride, sizeof stride);
  shape.size[dim] = (stop - start + step - 1) / step;
  stride[dim] *= step;
  return mbi_tensor_view(out, a, &shape, stride, start * a->stride[dim]);
}

mb_status mb_slice(mb_tensor **out, mb_tensor *a, int dim, int64_t start, int64_t stop, int64_t step) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_slice", "a"));
  slice_params p = {0, start, stop, step};
  MB_TRY(mbi_dim(&p.dim, "mb_slice", dim, a->shape.ndim));
  int64_t size = a->shape.size[p.dim];
  if (step < 1) MB_FAIL(MB_ERR_ARG, "mb_slice: step is %lld, at least 1 was expected", (long long)step);
  if (start < 0 || stop > size || start >= stop)
    MB_FAIL(MB_ERR_ARG, "mb_slice: [%lld, %lld) is empty or outside dimension %d, which has size %lld", (long long)start,
            (long long)stop, p.dim, (long long)size);
  mb_tensor *view;
  mb_status status = sliced(&view, a, p.dim, start, stop, step);
  return finish_view(out, view, status, MBI_OP_slice, a, &p, sizeof p);
}

// Zeroes [start, stop) of dimension `dim` of dx.
static mb_status clear_range(mb_tensor *dx, int dim, int64_t start, int64_t stop) {
  if (start >= stop) return MB_OK;
  mb_tensor *part;
  MB_TRY(sliced(&part, dx, dim, start, stop, 1));
  mb_status status = mbi_fill_view(part, 0.0);
  mb_tensor_release(part);
  return status;
}

// A fresh gradient is written once: the slice below, the rest here (all of it where the slice has gaps).
static mb_status clear_around(mb_tensor *dx, const slice_params *p) {
  int64_t size = dx->shape.size[p->dim];
  if (p->step > 1) return clear_range(dx, p->dim, 0, size);
  MB_TRY(clear_range(dx, p->dim, 0, p->start));
  return clear_range(dx, p->dim, p->stop, size);
}

mbi_node *mbi_slice_of_wide(const mbi_node *node, int input) {
  mbi_node *slice = node->edges[input].node;
  if (!slice || slice->op != MBI_OP_slice || !mbi_wide_cast(slice, 0)) return NULL;
  const slice_params *p = (const slice_params *)slice->params;
  return p->dim == 0 && p->step == 1 ? slice : NULL;
}

mb_status mbi_slice_sink_wide(mb_tensor **out, int *accumulate, mbi_node *slice) {
  const slice_params *p = (const slice_params *)slice->params;
  mb_tensor *dx;
  *out = NULL;
  MB_TRY(mbi_sink_wide(&dx, accumulate, slice, 0));
  mb_status status = *accumulate ? MB_OK : clear_around(dx, p);
  if (status == MB_OK) status = sliced(out, dx, p->dim, p->start, p->stop, p->step);
  mb_tensor_release(dx);
  return status;
}

mb_status mbi_slice_backward(mbi_node *node, mb_tensor *dout) {
  const slice_params *p = (const slice_params *)node->params;
  mb_tensor *dx, *part = NULL;
  int accumulate;
  MB_TRY(mbi_sink(&dx, &accumulate, node, 0));
  mb_status status = accumulate ? MB_OK : clear_around(dx, p);
  if (status == MB_OK) status = sliced(&part, dx, p->dim, p->start, p->stop, p->step);
  if (status == MB_OK) {
    mbi_view to = mbi_view_of(part), from = mbi_view_of(dout);
    status = accumulate ? mbi_kernels_of(dx)->axpby(&to, &from, 1.0, 1.0)
                        : mbi_memory_of(dx)->copy_view(&to, &from, mbi_dtype_size(dx->dtype));
  }
  mb_tensor_release(part);
  mb_tensor_release(dx);
  return status;
}

// ----- expand -----------------------------------------------------------------------------------------

mb_status mb_expand(mb_tensor **out, mb_tensor *a, int ndim, const int64_t *shape) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_expand", "a"));
  mbi_shape to = {0};
  MB_TRY(mbi_shape_make(&to, "mb_expand", ndim, shape));
  int lead = to.ndim - a->shape.ndim, fits = lead >= 0;
  for (int i = 0; fits && i < a->shape.ndim; i++) fits = a->shape.size[i] == 1 || a->shape.size[i] == to.size[lead + i];
  char from[MBI_SHAPE_TEXT], text[MBI_SHAPE_TEXT];
  if (!fits)
    MB_FAIL(MB_ERR_SHAPE, "mb_expand: %s cannot be stretched to %s", mbi_shape_text(from, a->shape.ndim, a->shape.size),
            mbi_shape_text(text, to.ndim, to.size));
  mbi_view wide = mbi_view_broadcast(a, &to);
  mb_tensor *view;
  mb_status status = mbi_tensor_view(&view, a, &to, wide.stride, 0);
  return finish_view(out, view, status, MBI_OP_expand, a, NULL, 0);
}

mb_status mbi_expand_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor_retain(dout);
  return mbi_give_unbroadcast(node, 0, dout);
}
