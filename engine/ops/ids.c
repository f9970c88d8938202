// SPDX-License-Identifier: MIT
//
// ids.c: tensors of token or class ids, of any integer dtype, made ready for kernels, which take checked
// contiguous MB_I32.
#include "core/capture.h"
#include "ops/ops.h"

static mb_status check(mb_tensor *ids, const mbi_ids_note *note, int64_t ignored) {
  const mbi_device *memory = mbi_memory_of(ids);
  int64_t bad;
  int32_t id;
  MB_TRY(memory->check_ids(&bad, mbi_data(ids), MB_I32, mbi_numel(ids), note->limit, ignored));
  if (bad < 0) return MB_OK;
  MB_TRY(memory->copy_out(&id, (const int32_t *)mbi_data(ids) + bad, sizeof id));
  return mbi_id_outside(note, bad, id);
}

// Where nobody waits: what is out of range is noted on the device, and replaced in a copy.
static mb_status replace(mb_tensor **ids, const mbi_ids_note *note, int64_t ignored) {
  mb_tensor *clean;
  int64_t *found;
  mb_device device = (*ids)->storage->device;
  int is_captured = mbi_capture_is_on(device);
  MB_TRY(is_captured ? mbi_capture_ids(&found, note) : mbi_late_ids(&found, device, note));
  MB_TRY(mbi_tensor_like(&clean, *ids));
  int32_t instead = ignored >= 0 && ignored <= INT32_MAX ? (int32_t)ignored : 0;
  mb_status status = mbi_memory_of(clean)->clean_ids(mbi_data(clean), found, mbi_data(*ids), mbi_numel(clean), note->limit, ignored, instead);
  if (status == MB_OK && !is_captured) status = mbi_late_ids_sent();
  mb_tensor_release(status == MB_OK ? *ids : clean);
  if (status == MB_OK) *ids = clean;
  return status;
}

mb_status mbi_ids(mb_tensor **out, mb_tensor *ids, int64_t limit, int64_t ignored, int is_training, const char *who, const char *argument,
                  const char *what) {
  *out = NULL;
  MB_TRY(mbi_check(ids, who, argument));
  if (mbi_dtype_is_float(ids->dtype))
    MB_FAIL(MB_ERR_DTYPE, "%s: %s is %s, an integer dtype (i32, u16, u8) was expected", who, argument, mbi_dtype_name(ids->dtype));
  mb_tensor *result;
  if (ids->dtype == MB_I32) MB_TRY(mbi_dense(&result, ids));
  else MB_TRY(mbi_cast(&result, ids, MB_I32));
  mbi_ids_note note = {.who = who, .argument = argument, .what = what, .limit = limit, .shape = ids->shape};
  int is_late = mbi_capture_is_on(ids->storage->device) || (is_training && mbi_memory_of(ids)->clean_ids);
  mb_status status = is_late ? replace(&result, &note, ignored) : check(result, &note, ignored);
  if (status == MB_OK) *out = result;
  else mb_tensor_release(result);
  return status;
}
