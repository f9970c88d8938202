// SPDX-License-Identifier: MIT
//
// refusal.c: gradients that a clipper refused while the host did not wait for it (spectral/step.c). The clipper leaves a number
// on the device, and an update that comes behind it reads that number and changes nothing (fuse/run.c), so that weights and states
// are as they were when the host hears of it. The number speaks of the gradients until they are zeroed; the first clipper that
// sees new ones makes it anew, further ones only add their refusal.
#include "autograd/model.h"
#include "core/capture.h"
#include "ops/ops.h"

mb_status mbi_model_guard(mb_model *model) {
  MB_TRY(mbi_model_check(model, "mb_spectral_policy_guard"));
  if (!model->gradients) MB_FAIL(MB_ERR_STATE, "mb_spectral_policy_guard: model '%s' has not been built", model->name);
  if (model->refusal) return MB_OK;
  mbi_shape shape = {.ndim = 1, .size = {1}};
  return mbi_zeros(&model->refusal, model->gradients->storage->device, MB_F64, &shape);
}

double *mbi_model_refusing(int *is_first, const mb_model *model) {
  *is_first = !model->is_guarded;
  return mbi_data(model->refusal);
}

void mbi_model_refused(mb_model *model) { model->is_guarded = 1; }

// A graph that zeroes gradients is launched without the host's knowing what they are: it makes the number 0 itself, as the clipper
// behind it, in another graph or in none, may take them for those that were clipped before.
mb_status mbi_model_forgive(mb_model *model) {
  model->is_guarded = 0;
  if (!model->refusal || !mbi_capture_is_on(model->refusal->storage->device)) return MB_OK;
  return mbi_memory_of(model->refusal)->zero(mbi_data(model->refusal), sizeof(double));
}

const double *mbi_model_refusal(const mb_model *model) { return model && model->is_guarded ? mbi_data(model->refusal) : NULL; }
