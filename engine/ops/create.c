// SPDX-License-Identifier: MIT
//
// create.c: tensors from nothing (empty, full, arange, random) and from host memory, and back to it.
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "core/capture.h"
#include "ops/ops.h"

static mb_status create(mb_tensor **out, const char *who, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device) {
  *out = NULL;
  if ((unsigned)dtype >= MB_DTYPE_COUNT) MB_FAIL(MB_ERR_DTYPE, "%s: unknown dtype %d", who, (int)dtype);
  mbi_shape checked = {0};
  MB_TRY(mbi_shape_make(&checked, who, ndim, shape));
  if (!mbi_device_of(device)) return MB_ERR_DEVICE;
  return mbi_tensor_new(out, device, dtype, &checked);
}

// Hands `t` out if what filled it went well.
static mb_status keep(mb_tensor **out, mb_tensor *t, mb_status status) {
  if (status != MB_OK) mb_tensor_release(t);
  *out = status == MB_OK ? t : NULL;
  return status;
}

mb_status mb_empty(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device) {
  return create(out, "mb_empty", dtype, ndim, shape, device);
}

mb_status mb_full(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device, double value) {
  mb_tensor *t;
  *out = NULL;
  MB_TRY(create(&t, "mb_full", dtype, ndim, shape, device));
  return keep(out, t, mbi_memory_of(t)->fill(mbi_data(t), dtype, value, mbi_numel(t)));
}

mb_status mb_from_host(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device, const void *data) {
  mb_tensor *t;
  *out = NULL;
  MB_TRY(create(&t, "mb_from_host", dtype, ndim, shape, device));
  return keep(out, t, mb_tensor_from_host(t, data));
}

mb_status mb_arange(mb_tensor **out, mb_dtype dtype, mb_device device, double start, double step, int64_t count) {
  mb_tensor *numbers;
  *out = NULL;
  MB_TRY(create(&numbers, "mb_arange", MB_F64, 1, &count, MB_CPU));
  double *x = mbi_data(numbers);
  for (int64_t i = 0; i < count; i++) x[i] = start + step * (double)i;
  mb_tensor *cast;
  mb_status status = mb_cast(&cast, numbers, dtype);
  mb_tensor_release(numbers);
  MB_TRY(status);
  status = mb_to_device(out, cast, device);
  mb_tensor_release(cast);
  return status;
}

// ----- random -------------------------------------------------------------------------------------

// Fills t with normal(a, b) or uniform(a, b) numbers; a strided t through a contiguous helper.
static mb_status fill_random(mb_tensor *t, int is_normal, double a, double b) {
  mb_tensor *dense = t;
  int strided = !mbi_is_contiguous(t);
  if (strided) MB_TRY(mbi_tensor_like(&dense, t));
  mbi_rng_key key = mbi_rng_next();
  const mbi_kernels *k = mbi_kernels_of(t);
  mb_status status = (is_normal ? k->random_normal : k->random_uniform)(mbi_data(dense), mbi_numel(t), a, b, key.seed, key.step, key.stream);
  if (strided) {
    mbi_view to = mbi_view_of(t), from = mbi_view_of(dense);
    if (status == MB_OK) status = mbi_memory_of(t)->copy_view(&to, &from, mbi_dtype_size(t->dtype));
    mb_tensor_release(dense);
  }
  if (status != MB_OK) mbi_rng_give_back(key);
  return status;
}

mb_status mb_randn_(mb_tensor *t, double mean, double std) {
  MB_TRY(mbi_check_float(t, "mb_randn_", "t"));
  MB_TRY(mbi_check_writable(t, "mb_randn_"));
  return fill_random(t, 1, mean, std);
}

mb_status mb_uniform_(mb_tensor *t, double low, double high) {
  MB_TRY(mbi_check_float(t, "mb_uniform_", "t"));
  MB_TRY(mbi_check_writable(t, "mb_uniform_"));
  return fill_random(t, 0, low, high);
}

mb_status mb_randn(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device) {
  mb_tensor *t;
  *out = NULL;
  MB_TRY(create(&t, "mb_randn", dtype, ndim, shape, device));
  return keep(out, t, mb_randn_(t, 0.0, 1.0));
}

mb_status mb_uniform(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device, double low, double high) {
  mb_tensor *t;
  *out = NULL;
  MB_TRY(create(&t, "mb_uniform", dtype, ndim, shape, device));
  return keep(out, t, mb_uniform_(t, low, high));
}

// ----- host memory --------------------------------------------------------------------------------

mb_status mb_tensor_data(void **out, mb_tensor *t) {
  *out = NULL;
  MB_TRY(mbi_check(t, "mb_tensor_data", "t"));
  if (t->storage->device != MB_CPU) MB_FAIL(MB_ERR_DEVICE, "mb_tensor_data: the tensor is on %s, copy it to cpu first", mbi_memory_of(t)->name);
  *out = mbi_data(t);
  return MB_OK;
}

mb_status mb_tensor_to_host(void *dst, mb_tensor *t) {
  MB_TRY(mbi_check(t, "mb_tensor_to_host", "t"));
  mb_tensor *dense;
  MB_TRY(mbi_dense(&dense, t));
  mb_status status = mbi_memory_of(t)->copy_out(dst, mbi_data(dense), (size_t)mbi_numel(t) * mbi_dtype_size(t->dtype));
  mb_tensor_release(dense);
  return status == MB_OK ? mbi_capture_settle(t->storage->device) : status;
}

mb_status mb_tensor_from_host(mb_tensor *t, const void *src) {
  MB_TRY(mbi_check(t, "mb_tensor_from_host", "t"));
  MB_TRY(mbi_check_writable(t, "mb_tensor_from_host"));
  size_t bytes = (size_t)mbi_numel(t) * mbi_dtype_size(t->dtype);
  if (mbi_is_contiguous(t)) return mbi_memory_of(t)->copy_in(mbi_data(t), src, bytes);
  mb_tensor *dense;
  MB_TRY(mbi_tensor_like(&dense, t));
  mb_status status = mbi_memory_of(t)->copy_in(mbi_data(dense), src, bytes);
  mbi_view to = mbi_view_of(t), from = mbi_view_of(dense);
  if (status == MB_OK) status = mbi_memory_of(t)->copy_view(&to, &from, mbi_dtype_size(t->dtype));
  mb_tensor_release(dense);
  return status;
}

mb_status mb_tensor_item(double *out, mb_tensor *t) {
  MB_TRY(mbi_check(t, "mb_tensor_item", "t"));
  char text[MBI_SHAPE_TEXT];
  if (mbi_numel(t) != 1)
    MB_FAIL(MB_ERR_SHAPE, "mb_tensor_item: one element was expected, the tensor has shape %s", mbi_shape_text(text, t->shape.ndim, t->shape.size));
  unsigned char raw[8];
  MB_TRY(mb_tensor_to_host(raw, t));
  MB_TRY(mbi_cpu_device()->convert(out, MB_F64, raw, t->dtype, 1));
  if (*out != *out) *out = (double)NAN;
  return MB_OK;
}
