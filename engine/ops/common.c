// SPDX-License-Identifier: MIT
//
// common.c: the steps that op files share.
#include "ops/ops.h"

mb_status mbi_finish(mb_tensor **out, mb_tensor *result, mb_status status, mbi_op op, mb_tensor *const *inputs, int n_inputs,
                     mb_tensor *const *saved, int n_saved, const void *params, size_t params_bytes) {
  *out = NULL;
  if (status == MB_OK) status = mbi_record(result, op, inputs, n_inputs, saved, n_saved, params, params_bytes);
  if (status == MB_OK) *out = result;
  else mb_tensor_release(result);
  return status;
}

mb_status mbi_give_unbroadcast(mbi_node *node, int input, mb_tensor *wide) {
  const mbi_shape *narrow = &node->edges[input].shape;
  if (mbi_shape_equal(narrow, &wide->shape)) return mbi_give(node, input, wide);
  unsigned dims = 0;
  int lead = wide->shape.ndim - narrow->ndim;
  for (int i = 0; i < wide->shape.ndim; i++)
    if (i < lead || (narrow->size[i - lead] == 1 && wide->shape.size[i] != 1)) dims |= 1u << i;
  mbi_view x = mbi_view_of(wide);
  mb_tensor *dx;
  mbi_place place;
  mb_status status;
  if (mbi_wide_cast(node, input) || mbi_slice_of_wide(node, input)) { // straight to where it is kept
    status = mbi_place_open(&place, node, input);
    if (status == MB_OK)
      status = mbi_place_close(&place, node, input, mbi_kernels_of(wide)->sum_over(mbi_place_data(&place), place.accumulate, &x, dims));
  } else {
    status = mbi_tensor_new(&dx, wide->storage->device, wide->dtype, narrow);
    if (status == MB_OK) status = mbi_kernels_of(wide)->reduce(MBI_REDUCE_SUM, mbi_data(dx), NULL, &x, dims, 1.0);
    if (status == MB_OK) status = mbi_give(node, input, dx);
    else mb_tensor_release(dx);
  }
  mb_tensor_release(wide);
  return status;
}

mb_status mbi_zeros(mb_tensor **out, mb_device device, mb_dtype dtype, const mbi_shape *shape) {
  MB_TRY(mbi_tensor_new(out, device, dtype, shape));
  if ((*out)->storage->began_as_zero) return MB_OK;
  mb_status status = mbi_memory_of(*out)->zero(mbi_data(*out), (size_t)mbi_numel(*out) * mbi_dtype_size(dtype));
  if (status != MB_OK) {
    mb_tensor_release(*out);
    *out = NULL;
  }
  return status;
}

// Strided memory is filled by copying one element with strides of 0.
mb_status mbi_fill_view(mb_tensor *t, double value) {
  const mbi_device *memory = mbi_memory_of(t);
  if (mbi_is_contiguous(t)) return memory->fill(mbi_data(t), t->dtype, value, mbi_numel(t));
  mbi_shape scalar = {0};
  mb_tensor *one;
  MB_TRY(mbi_tensor_new(&one, t->storage->device, t->dtype, &scalar));
  mb_status status = memory->fill(mbi_data(one), t->dtype, value, 1);
  if (status == MB_OK) {
    mbi_view to = mbi_view_of(t), from = mbi_view_broadcast(one, &t->shape);
    status = memory->copy_view(&to, &from, mbi_dtype_size(t->dtype));
  }
  mb_tensor_release(one);
  return status;
}
