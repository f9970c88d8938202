// SPDX-License-Identifier: MIT
//
// copies.c: the same numbers in other memory: another dtype, another device, or just contiguous. The
// gradient goes back the same way. Tests: tests/ops/, tests/c/test_views.c.
#include "core/rng.h"
#include "core/capture.h"
#include "ops/ops.h"

// Hands `a` itself out, with a reference of its own.
static mb_status same(mb_tensor **out, mb_tensor *a) {
  mb_tensor_retain(a);
  *out = a;
  return MB_OK;
}

mb_status mbi_copy(mb_tensor **out, mb_tensor *t) {
  MB_TRY(mbi_tensor_like(out, t));
  mbi_view to = mbi_view_of(*out), from = mbi_view_of(t);
  mb_status status = mbi_memory_of(t)->copy_view(&to, &from, mbi_dtype_size(t->dtype));
  if (status != MB_OK) {
    mb_tensor_release(*out);
    *out = NULL;
  }
  return status;
}

// ----- cast -------------------------------------------------------------------------------------------

mb_status mbi_cast(mb_tensor **out, mb_tensor *a, mb_dtype dtype) {
  *out = NULL;
  mb_tensor *dense, *result;
  MB_TRY(mbi_dense(&dense, a));
  mb_status status = mbi_tensor_new(&result, a->storage->device, dtype, &a->shape);
  if (status == MB_OK) {
    status = mbi_memory_of(a)->convert(mbi_data(result), dtype, mbi_data(dense), a->dtype, mbi_numel(a));
    if (status == MB_OK) *out = result;
    else mb_tensor_release(result);
  }
  mb_tensor_release(dense);
  return status;
}

mb_status mb_cast(mb_tensor **out, mb_tensor *a, mb_dtype dtype) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_cast", "a"));
  if ((unsigned)dtype >= MB_DTYPE_COUNT) MB_FAIL(MB_ERR_DTYPE, "mb_cast: unknown dtype %d", (int)dtype);
  if (a->dtype == dtype) return same(out, a);
  mb_tensor *result;
  MB_TRY(mbi_cast(&result, a, dtype));
  if (!mbi_dtype_is_float(dtype)) { // integers have no gradient
    *out = result;
    return MB_OK;
  }
  return mbi_finish(out, result, MB_OK, MBI_OP_cast, &a, 1, NULL, 0, &a->dtype, sizeof a->dtype);
}

mb_status mb_round_stochastic(mb_tensor **out, mb_tensor *a) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_round_stochastic", "a"));
  if (a->dtype == MB_BF16) return same(out, a);
  MB_TRY(mbi_check_float(a, "mb_round_stochastic", "a"));
  mb_tensor *dense, *result;
  MB_TRY(mbi_dense(&dense, a));
  mb_status status = mbi_tensor_new(&result, a->storage->device, MB_BF16, &a->shape);
  if (status == MB_OK) {
    mbi_rng_key key = mbi_rng_next();
    status = mbi_kernels_of(a)->round_stochastic(mbi_data(result), mbi_data(dense), mbi_numel(a), key.seed, key.step, key.stream);
    status = mbi_finish(out, result, status, MBI_OP_cast, &a, 1, NULL, 0, &a->dtype, sizeof a->dtype);
    if (status != MB_OK) mbi_rng_give_back(key);
  }
  mb_tensor_release(dense);
  return status;
}

mb_status mbi_cast_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *dx;
  MB_TRY(mbi_cast(&dx, dout, *(const mb_dtype *)node->params));
  return mbi_give(node, 0, dx);
}

// ----- devices ----------------------------------------------------------------------------------------

// One of the two devices is the CPU, whose memory is the host's.
mb_status mbi_moved(mb_tensor **out, mb_tensor *a, mb_device device) {
  *out = NULL;
  mb_tensor *dense, *result;
  MB_TRY(mbi_dense(&dense, a));
  mb_status status = mbi_tensor_new(&result, device, a->dtype, &a->shape);
  if (status == MB_OK) {
    size_t bytes = (size_t)mbi_numel(a) * mbi_dtype_size(a->dtype);
    if (device == MB_CPU) status = mbi_memory_of(a)->copy_out(mbi_data(result), mbi_data(dense), bytes);
    else status = mbi_memory_of(result)->copy_in(mbi_data(result), mbi_data(dense), bytes);
    if (status == MB_OK && device == MB_CPU) status = mbi_capture_settle(a->storage->device);
    if (status == MB_OK) *out = result;
    else mb_tensor_release(result);
  }
  mb_tensor_release(dense);
  return status;
}

mb_status mb_to_device(mb_tensor **out, mb_tensor *a, mb_device device) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_to_device", "a"));
  if (!mbi_device_of(device)) return MB_ERR_DEVICE;
  if (a->storage->device == device) return same(out, a);
  mb_tensor *result;
  MB_TRY(mbi_moved(&result, a, device));
  return mbi_finish(out, result, MB_OK, MBI_OP_to_device, &a, 1, NULL, 0, &a->storage->device, sizeof a->storage->device);
}

mb_status mbi_to_device_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *dx;
  MB_TRY(mbi_moved(&dx, dout, *(const mb_device *)node->params));
  return mbi_give(node, 0, dx);
}

// ----- clone ------------------------------------------------------------------------------------------

mb_status mb_clone(mb_tensor **out, mb_tensor *a) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_clone", "a"));
  mb_tensor *copy;
  MB_TRY(mbi_copy(&copy, a));
  return mbi_finish(out, copy, MB_OK, MBI_OP_clone, &a, 1, NULL, 0, NULL, 0);
}

mb_status mbi_clone_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor_retain(dout);
  return mbi_give(node, 0, dout);
}

mb_status mb_contiguous(mb_tensor **out, mb_tensor *a) {
  *out = NULL;
  MB_TRY(mbi_check(a, "mb_contiguous", "a"));
  return mbi_is_contiguous(a) ? same(out, a) : mb_clone(out, a);
}
