// SPDX-License-Identifier: MIT
//
// concat.c: tensors side by side along one dimension. Backward gives every input its part of dout, as a
// view: nothing is copied until somebody needs it contiguous. Tests: tests/ops/, tests/c/test_views.c.
#include <stdio.h>

#include "ops/ops.h"

// The part of `whole` that begins at `start` in `dim` and has `shape`.
static mb_status part_of(mb_tensor **out, mb_tensor *whole, int dim, int64_t start, const mbi_shape *shape) {
  return mbi_tensor_view(out, whole, shape, whole->stride, start * whole->stride[dim]);
}

static mb_status result_shape(mbi_shape *out, int *dim, mb_tensor *const *tensors, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    char name[40];
    snprintf(name, sizeof name, "tensor %lld", (long long)i);
    MB_TRY(mbi_check(tensors[i], "mb_concat", name));
  }
  const mb_tensor *first = tensors[0];
  MB_TRY(mbi_dim(dim, "mb_concat", *dim, first->shape.ndim));
  *out = first->shape;
  for (int64_t i = 1; i < count; i++) {
    const mb_tensor *t = tensors[i];
    if (t->dtype != first->dtype)
      MB_FAIL(MB_ERR_DTYPE, "mb_concat: tensor %lld is %s, tensor 0 is %s", (long long)i, mbi_dtype_name(t->dtype),
              mbi_dtype_name(first->dtype));
    if (t->storage->device != first->storage->device)
      MB_FAIL(MB_ERR_DEVICE, "mb_concat: tensor %lld and tensor 0 are on different devices", (long long)i);
    int fits = t->shape.ndim == first->shape.ndim;
    for (int d = 0; fits && d < first->shape.ndim; d++) fits = d == *dim || t->shape.size[d] == first->shape.size[d];
    char a[MBI_SHAPE_TEXT], b[MBI_SHAPE_TEXT];
    if (!fits)
      MB_FAIL(MB_ERR_SHAPE, "mb_concat: tensor %lld is %s, tensor 0 is %s; they may differ in dimension %d only", (long long)i,
              mbi_shape_text(a, t->shape.ndim, t->shape.size), mbi_shape_text(b, first->shape.ndim, first->shape.size), *dim);
    if (__builtin_add_overflow(out->size[*dim], t->shape.size[*dim], &out->size[*dim])) out->size[*dim] = INT64_MAX;
  }
  return mbi_shape_make(out, "mb_concat", out->ndim, out->size);
}

mb_status mb_concat(mb_tensor **out, mb_tensor *const *tensors, int64_t count, int dim) {
  *out = NULL;
  if (count < 1 || count > INT32_MAX) MB_FAIL(MB_ERR_ARG, "mb_concat: %lld tensors, at least one was expected", (long long)count);
  mbi_shape shape = {0};
  MB_TRY(result_shape(&shape, &dim, tensors, count));
  mb_tensor *result;
  MB_TRY(mbi_tensor_new(&result, tensors[0]->storage->device, tensors[0]->dtype, &shape));
  mb_status status = MB_OK;
  int64_t start = 0;
  for (int64_t i = 0; i < count && status == MB_OK; i++) {
    mbi_view from = mbi_view_of(tensors[i]), to = from;
    for (int d = 0; d < shape.ndim; d++) to.stride[d] = result->stride[d];
    to.data = (char *)mbi_data(result) + (size_t)(start * result->stride[dim]) * mbi_dtype_size(result->dtype);
    status = mbi_memory_of(result)->copy_view(&to, &from, mbi_dtype_size(result->dtype));
    start += tensors[i]->shape.size[dim];
  }
  return mbi_finish(out, result, status, MBI_OP_concat, tensors, (int)count, NULL, 0, &dim, sizeof dim);
}

mb_status mbi_concat_backward(mbi_node *node, mb_tensor *dout) {
  int dim = *(const int *)node->params;
  int64_t start = 0;
  for (int i = 0; i < node->n_inputs; i++) {
    const mbi_shape *shape = &node->edges[i].shape;
    if (mbi_needs(node, i)) {
      mb_tensor *part;
      MB_TRY(part_of(&part, dout, dim, start, shape));
      MB_TRY(mbi_give(node, i, part));
    }
    start += shape->size[dim];
  }
  return MB_OK;
}
