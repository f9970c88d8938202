// SPDX-License-Identifier: MIT
//
// tensor.c: making, reading and dropping handles.
#include "core/tensor.h"

#include <string.h>

static int64_t next_id = 1;

// ----- checks -------------------------------------------------------------------------------------

mb_status mbi_check(const mb_tensor *t, const char *who, const char *argument) {
  if (!t) MB_FAIL(MB_ERR_ARG, "%s: %s is NULL, a tensor was expected", who, argument);
  if (!t->storage) MB_FAIL(MB_ERR_STATE, "%s: %s was released: %s", who, argument, t->discarded);
  return MB_OK;
}

mb_status mbi_check_float(const mb_tensor *t, const char *who, const char *argument) {
  MB_TRY(mbi_check(t, who, argument));
  if (!mbi_dtype_is_float(t->dtype))
    MB_FAIL(MB_ERR_DTYPE, "%s: %s is %s, a floating dtype was expected", who, argument, mbi_dtype_name(t->dtype));
  if (!mbi_kernels_of(t))
    MB_FAIL(MB_ERR_DTYPE, "%s: %s is %s, with which %s does not compute", who, argument, mbi_dtype_name(t->dtype), mbi_memory_of(t)->name);
  return MB_OK;
}

mb_status mbi_check_wide(const mb_tensor *t, const char *who, const char *argument) {
  MB_TRY(mbi_check(t, who, argument));
  if (t->dtype != MB_F32 && t->dtype != MB_F64)
    MB_FAIL(MB_ERR_DTYPE, "%s: %s is %s, f32 or f64 was expected", who, argument, mbi_dtype_name(t->dtype));
  return MB_OK;
}

mb_status mbi_check_same(const mb_tensor *a, const mb_tensor *b, const char *who) {
  if (a->dtype != b->dtype)
    MB_FAIL(MB_ERR_DTYPE, "%s: dtypes differ, a is %s, b is %s", who, mbi_dtype_name(a->dtype), mbi_dtype_name(b->dtype));
  if (a->storage->device != b->storage->device) MB_FAIL(MB_ERR_DEVICE, "%s: the tensors are on different devices", who);
  return MB_OK;
}

// ----- construction -------------------------------------------------------------------------------

static mb_status header_new(mb_tensor **out, mb_dtype dtype, const mbi_shape *shape) {
  *out = NULL;
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_tensor", 1, sizeof(mb_tensor)));
  mb_tensor *t = memory;
  t->refs = 1;
  t->dtype = dtype;
  t->shape = *shape;
  t->id = next_id++;
  mbi_count_tensor(1);
  *out = t;
  return MB_OK;
}

mb_status mbi_tensor_new(mb_tensor **out, mb_device device, mb_dtype dtype, const mbi_shape *shape) {
  MB_TRY(header_new(out, dtype, shape));
  mbi_shape_contiguous_strides(shape, (*out)->stride);
  mb_status status = mbi_storage_new(&(*out)->storage, device, dtype, shape);
  if (status != MB_OK) {
    mb_tensor_release(*out);
    *out = NULL;
  }
  return status;
}

mb_status mbi_tensor_like(mb_tensor **out, const mb_tensor *t) {
  return mbi_tensor_new(out, t->storage->device, t->dtype, &t->shape);
}

mb_status mbi_tensor_view(mb_tensor **out, const mb_tensor *t, const mbi_shape *shape, const int64_t *stride, int64_t offset) {
  MB_TRY(header_new(out, t->dtype, shape));
  memcpy((*out)->stride, stride, (size_t)shape->ndim * sizeof *stride);
  (*out)->offset = t->offset + offset;
  (*out)->storage = t->storage;
  mbi_storage_retain(t->storage);
  return MB_OK;
}

mb_status mbi_tensor_alias(mb_tensor **out, const mb_tensor *t) {
  return mbi_tensor_view(out, t, &t->shape, t->stride, 0);
}

mb_status mbi_dense(mb_tensor **out, mb_tensor *t) {
  *out = NULL;
  if (mbi_is_contiguous(t)) {
    mb_tensor_retain(t);
    *out = t;
    return MB_OK;
  }
  mb_tensor *copy;
  MB_TRY(mbi_tensor_like(&copy, t));
  mbi_view to = mbi_view_of(copy), from = mbi_view_of(t);
  mb_status status = mbi_memory_of(t)->copy_view(&to, &from, mbi_dtype_size(t->dtype));
  if (status != MB_OK) mb_tensor_release(copy);
  else *out = copy;
  return status;
}

void mb_tensor_retain(mb_tensor *t) {
  if (t) t->refs++;
}

void mb_tensor_release(mb_tensor *t) {
  if (!t) return;
  mbi_assert(t->refs > 0);
  if (--t->refs > 0) return;
  mbi_node *node = t->node;
  mb_tensor *grad = t->grad;
  if (node) mbi_node_forget_output(node);
  if (t->storage) mbi_storage_release(t->storage);
  mbi_count_tensor(-1);
  mbi_free(t);
  mb_tensor_release(grad); // a gradient is a leaf without a gradient of its own: one level deep
  mbi_node_release(node);
}

void mb_tensor_discard(mb_tensor *t, const char *why) {
  if (!t || !t->storage) return;
  mbi_storage_release(t->storage);
  t->storage = NULL;
  t->discarded = why;
  mbi_node *node = t->node;
  mb_tensor *grad = t->grad;
  t->node = NULL;
  t->grad = NULL;
  if (node) mbi_node_forget_output(node);
  mb_tensor_release(grad);
  mbi_node_release(node);
}

// ----- looking inside -------------------------------------------------------------------------------

int mbi_is_contiguous(const mb_tensor *t) {
  int64_t expected = 1;
  for (int i = t->shape.ndim - 1; i >= 0; i--) {
    if (t->shape.size[i] != 1 && t->stride[i] != expected) return 0;
    expected *= t->shape.size[i];
  }
  return 1;
}

void *mbi_data(const mb_tensor *t) { return (char *)t->storage->data + (size_t)t->offset * mbi_dtype_size(t->dtype); }

mbi_view mbi_view_of(const mb_tensor *t) {
  mbi_view view = {.data = mbi_data(t), .ndim = t->shape.ndim};
  memcpy(view.size, t->shape.size, sizeof view.size);
  memcpy(view.stride, t->stride, sizeof view.stride);
  return view;
}

mbi_view mbi_view_broadcast(const mb_tensor *t, const mbi_shape *shape) {
  mbi_view view = {.data = mbi_data(t), .ndim = shape->ndim};
  memcpy(view.size, shape->size, sizeof view.size);
  int lead = shape->ndim - t->shape.ndim;
  for (int i = lead; i < shape->ndim; i++)
    view.stride[i] = t->shape.size[i - lead] == 1 && shape->size[i] != 1 ? 0 : t->stride[i - lead];
  return view;
}

const mbi_device *mbi_memory_of(const mb_tensor *t) { return mbi_device_of(t->storage->device); }
const mbi_kernels *mbi_kernels_of(const mb_tensor *t) { return mbi_memory_of(t)->kernels[t->dtype]; }

mb_status mbi_check_writable(mb_tensor *t, const char *who) {
  if (t->storage->pins > 0)
    MB_FAIL(MB_ERR_STATE, "%s: the values are still needed by the backward of '%s'; call backward first, or change a clone",
            who, t->storage->pinned_by);
  for (int d = 0; d < t->shape.ndim; d++)
    if (t->stride[d] == 0 && t->shape.size[d] > 1)
      MB_FAIL(MB_ERR_STATE, "%s: the tensor is an expanded view, several of its elements share memory; change a clone", who);
  if (t->node) MB_FAIL(MB_ERR_STATE, "%s: the tensor is the result of '%s'; change a detached clone instead", who, mbi_node_name(t->node));
  mbi_touch(t);
  return MB_OK;
}

void mbi_touch(mb_tensor *t) { t->storage->version++; }

int mb_tensor_refs(const mb_tensor *t) { return t->refs; }
int mb_tensor_ndim(const mb_tensor *t) { return t->shape.ndim; }
int64_t mb_tensor_numel(const mb_tensor *t) { return mbi_numel(t); }
const int64_t *mb_tensor_shape(const mb_tensor *t) { return t->shape.size; }
const int64_t *mb_tensor_stride(const mb_tensor *t) { return t->stride; }
mb_dtype mb_tensor_dtype(const mb_tensor *t) { return t->dtype; }
mb_device mb_tensor_device(const mb_tensor *t) { return t->storage ? t->storage->device : MB_CPU; }
int64_t mb_tensor_id(const mb_tensor *t) { return t->id; }
int mb_tensor_is_contiguous(const mb_tensor *t) { return mbi_is_contiguous(t); }
uint64_t mb_tensor_address(const mb_tensor *t) { return t->storage ? (uint64_t)(uintptr_t)mbi_data(t) : 0; }
int mb_tensor_is_live(const mb_tensor *t) { return t->storage != NULL; }
