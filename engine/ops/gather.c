// SPDX-License-Identifier: MIT
//
// gather.c: out[i][j] = a[index[i][j]][j] for dimension 0, and so on. index has a's rank, and in the other
// dimensions at most a's sizes. Backward adds dout at the places read, in the order of index.
// Tests: tests/ops/, tests/c/test_views.c.
#include "ops/ops.h"

static mb_status check_index(const mb_tensor *a, int dim, const mb_tensor *index) {
  if (index->dtype != MB_I32) MB_FAIL(MB_ERR_DTYPE, "mb_gather: index is %s, i32 was expected", mbi_dtype_name(index->dtype));
  if (index->storage->device != a->storage->device) MB_FAIL(MB_ERR_DEVICE, "mb_gather: the tensors are on different devices");
  int fits = index->shape.ndim == a->shape.ndim;
  for (int d = 0; fits && d < a->shape.ndim; d++) fits = d == dim || index->shape.size[d] <= a->shape.size[d];
  char of_a[MBI_SHAPE_TEXT], of_index[MBI_SHAPE_TEXT];
  if (!fits)
    MB_FAIL(MB_ERR_SHAPE, "mb_gather: index %s does not fit a %s in the dimensions other than %d",
            mbi_shape_text(of_index, index->shape.ndim, index->shape.size), mbi_shape_text(of_a, a->shape.ndim, a->shape.size), dim);
  return MB_OK;
}

static mb_status check_values(mb_tensor *dense, int64_t limit) {
  const mbi_device *memory = mbi_memory_of(dense);
  int64_t bad;
  MB_TRY(memory->check_ids(&bad, mbi_data(dense), MB_I32, mbi_numel(dense), limit, 0));
  if (bad < 0) return MB_OK;
  int32_t value;
  MB_TRY(memory->copy_out(&value, (const int32_t *)mbi_data(dense) + bad, sizeof value));
  MB_FAIL(MB_ERR_ARG, "mb_gather: index %d at element %lld is outside 0..%lld (elements count from 0)", (int)value, (long long)bad, (long long)limit - 1);
}

mb_status mb_gather(mb_tensor **out, mb_tensor *a, int dim, mb_tensor *index) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, "mb_gather", "a"));
  MB_TRY(mbi_check(index, "mb_gather", "index"));
  int d;
  MB_TRY(mbi_dim(&d, "mb_gather", dim, a->shape.ndim));
  MB_TRY(check_index(a, d, index));
  mb_tensor *dense, *result;
  MB_TRY(mbi_dense(&dense, index));
  mb_status status = check_values(dense, a->shape.size[d]);
  if (status == MB_OK) status = mbi_tensor_new(&result, a->storage->device, a->dtype, &index->shape);
  if (status == MB_OK) {
    mbi_view x = mbi_view_of(a);
    status = mbi_kernels_of(a)->gather(mbi_data(result), &x, mbi_data(dense), index->shape.size, d);
    status = mbi_finish(out, result, status, MBI_OP_gather, &a, 1, &dense, 1, &d, sizeof d);
  }
  mb_tensor_release(dense);
  return status;
}

mb_status mbi_gather_backward(mbi_node *node, mb_tensor *dout) {
  int dim = *(const int *)node->params;
  mb_tensor *index = mbi_saved_tensor(node, 0), *dx;
  int accumulate;
  MB_TRY(mbi_sink(&dx, &accumulate, node, 0));
  mb_status status = accumulate ? MB_OK : mbi_fill_view(dx, 0.0);
  mbi_view to = mbi_view_of(dx);
  if (status == MB_OK)
    status = mbi_kernels_of(dx)->gather_backward(&to, mbi_data(dout), mbi_data(index), index->shape.size, dim);
  mb_tensor_release(dx);
  return status;
}
