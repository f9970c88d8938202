// SPDX-License-Identifier: MIT
//
// ids.c: tensors of token or class ids, of any integer dtype, made ready for kernels, which take checked
// contiguous MB_I32.
#include "ops/ops.h"

// Names element `flat` of ids and its value.
static mb_status outside(const mb_tensor *ids, int64_t flat, int64_t limit, const char *who, const char *argument, const char *what) {
  int32_t id;
  MB_TRY(mbi_memory_of(ids)->copy_out(&id, (const int32_t *)mbi_data(ids) + flat, sizeof id));
  int64_t position[MB_MAX_DIMS];
  for (int d = ids->shape.ndim - 1; d >= 0; d--) {
    position[d] = flat % ids->shape.size[d];
    flat /= ids->shape.size[d];
  }
  char text[MBI_SHAPE_TEXT];
  MB_FAIL(MB_ERR_ARG, "%s: %s at %s is %d, but there are %lld %s: 0 to %lld was expected (places count from 0)", who, argument,
          mbi_shape_text(text, ids->shape.ndim, position), (int)id, (long long)limit, what, (long long)limit - 1);
}

mb_status mbi_ids(mb_tensor **out, mb_tensor *ids, int64_t limit, int64_t ignored, const char *who, const char *argument,
                  const char *what) {
  *out = NULL;
  MB_TRY(mbi_check(ids, who, argument));
  if (mbi_dtype_is_float(ids->dtype))
    MB_FAIL(MB_ERR_DTYPE, "%s: %s is %s, an integer dtype (i32, u16, u8) was expected", who, argument, mbi_dtype_name(ids->dtype));
  mb_tensor *result;
  if (ids->dtype == MB_I32) MB_TRY(mbi_dense(&result, ids));
  else MB_TRY(mbi_cast(&result, ids, MB_I32));
  int64_t bad;
  mb_status status = mbi_memory_of(result)->check_ids(&bad, mbi_data(result), MB_I32, mbi_numel(result), limit, ignored);
  if (status == MB_OK && bad >= 0) status = outside(result, bad, limit, who, argument, what);
  if (status == MB_OK) *out = result;
  else mb_tensor_release(result);
  return status;
}
