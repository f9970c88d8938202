// SPDX-License-Identifier: MIT
//
// arena.c: the flat buffers of a model. The layout (model.h) is computed once, by build; values, gradients
// and every optimizer state share it, so that one range of elements means the same parameter in all of them.
//
// Gradients that zero_grad has cleared are not written to: their parameter carries a flag, the next backward
// overwrites instead of adding, and who asks for them first has them cleared (mb_grad in tape.c for one,
// mb_model_gradients for all). Buffers begin as zero pages of the system, which cost nothing until touched.
#include "autograd/model.h"
#include "core/capture.h"
#include "ops/ops.h"

// ----- layout -------------------------------------------------------------------------------------------

static int64_t align_up(int64_t n) { return (n + MBI_ARENA_ALIGN - 1) / MBI_ARENA_ALIGN * MBI_ARENA_ALIGN; }

static mbi_group *group_for(mb_model *model, const mbi_parameter *p) {
  for (int64_t g = 0; g < model->group_count; g++)
    if (model->groups[g].role == p->role && mbi_shape_equal(&model->groups[g].shape, &p->shape)) return &model->groups[g];
  mbi_group *group = &model->groups[model->group_count++];
  *group = (mbi_group){.role = p->role, .shape = p->shape};
  return group;
}

// Puts every parameter into its group, groups one after another, members in their order within them.
static mb_status lay_out(mb_model *model) {
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_model_build", (size_t)model->count, sizeof *model->groups));
  mbi_free(model->groups); // of a build that failed
  model->groups = memory;
  model->group_count = 0;
  for (int64_t i = 0; i < model->count; i++) {
    mbi_parameter *p = &model->parameters[i];
    mbi_group *group = group_for(model, p);
    p->group = group - model->groups;
    p->begin = group->members++ * mbi_shape_numel(&p->shape); // within the group
    if (p->begin > (int64_t)1 << 59) MB_FAIL(MB_ERR_SHAPE, "mb_model_build: model '%s' has too many elements", model->name);
  }
  model->size = 0;
  for (int64_t g = 0; g < model->group_count; g++) {
    mbi_group *group = &model->groups[g];
    group->begin = model->size;
    model->size = align_up(model->size + group->members * mbi_shape_numel(&group->shape));
    if (model->size > (int64_t)1 << 59) MB_FAIL(MB_ERR_SHAPE, "mb_model_build: model '%s' has too many elements", model->name);
  }
  for (int64_t i = 0; i < model->count; i++) model->parameters[i].begin += model->groups[model->parameters[i].group].begin;
  return MB_OK;
}

// ----- build --------------------------------------------------------------------------------------------

static mb_status flat_view(mb_tensor **out, const mb_tensor *flat, const mbi_shape *shape, int64_t begin) {
  int64_t stride[MB_MAX_DIMS];
  mbi_shape_contiguous_strides(shape, stride);
  return mbi_tensor_view(out, flat, shape, stride, begin);
}

static mb_status new_flat(mb_tensor **out, const mb_model *model, mb_dtype dtype, mb_device device, const char *label) {
  mbi_shape shape = {.ndim = 1, .size = {model->size}};
  MB_TRY(mbi_zeros(out, device, dtype, &shape));
  (*out)->storage->label = label;
  return MB_OK;
}

// Weight and gradient of parameter p as views of the two buffers.
static mb_status bind(mbi_parameter *p, const mb_tensor *values, const mb_tensor *gradients) {
  MB_TRY(flat_view(&p->weight, values, &p->shape, p->begin));
  MB_TRY(flat_view(&p->weight->grad, gradients, &p->shape, p->begin));
  p->weight->requires_grad = 1;
  p->weight->grad_is_zero = 1;
  return MB_OK;
}

// Values of parameter i: the Philox stream (seed, step 0, stream i).
static mb_status initialise(const mbi_parameter *p, int64_t i, uint64_t seed) {
  const mbi_kernels *kernels = mbi_kernels_of(p->weight);
  const mbi_device *memory = mbi_memory_of(p->weight);
  void *data = mbi_data(p->weight);
  int64_t count = mbi_shape_numel(&p->shape);
  switch (p->init) {
    case MB_INIT_ONES: return memory->fill(data, p->weight->dtype, 1.0, count);
    case MB_INIT_NORMAL: return kernels->random_normal(data, count, 0.0, p->scale, seed, 0, (uint64_t)i);
    case MB_INIT_UNIFORM: return kernels->random_uniform(data, count, -p->scale, p->scale, seed, 0, (uint64_t)i);
    default: return MB_OK; // zeros are what the buffer begins as
  }
}

static mb_status build(mb_model *model, mb_dtype dtype, mb_device device, uint64_t seed) {
  MB_TRY(lay_out(model));
  MB_TRY(new_flat(&model->values, model, dtype, device, "weights"));
  MB_TRY(new_flat(&model->gradients, model, dtype, device, "gradients"));
  for (int64_t i = 0; i < model->count; i++) {
    MB_TRY(bind(&model->parameters[i], model->values, model->gradients));
    MB_TRY(initialise(&model->parameters[i], i, seed));
  }
  return MB_OK;
}

mb_status mb_model_build(mb_model *model, mb_dtype dtype, mb_device device, uint64_t seed) {
  MB_TRY(mbi_model_check(model, "mb_model_build"));
  if (model->values) MB_FAIL(MB_ERR_STATE, "mb_model_build: model '%s' is built already", model->name);
  if (!model->count) MB_FAIL(MB_ERR_STATE, "mb_model_build: model '%s' has no parameters", model->name);
  if (!mbi_dtype_is_float(dtype)) MB_FAIL(MB_ERR_DTYPE, "mb_model_build: dtype is %s, f32, f64 or bf16 was expected", mbi_dtype_name(dtype));
  const mbi_device *where = mbi_device_of(device);
  if (!where) return MB_ERR_DEVICE;
  if (!where->kernels[dtype]) MB_FAIL(MB_ERR_DTYPE, "mb_model_build: %s does not compute with %s", where->name, mbi_dtype_name(dtype));
  MB_TRY(mb_device_check(device));
  model->compute = dtype;
  mb_status status = build(model, mbi_wide_dtype(dtype), device, seed);
  if (status == MB_OK && device != MB_CPU) status = mbi_model_guard(model); // before any graph that zeroes gradients
  if (status == MB_OK) return MB_OK;
  for (int64_t i = 0; i < model->count; i++) {
    mb_tensor_release(model->parameters[i].weight);
    model->parameters[i].weight = NULL;
  }
  mb_tensor_release(model->values);
  mb_tensor_release(model->gradients);
  model->values = model->gradients = NULL;
  return status;
}

// ----- parameters of the arena ------------------------------------------------------------------------------

static mb_status check_built(const mb_model *model, const char *who) {
  MB_TRY(mbi_model_check(model, who));
  if (!model->values) MB_FAIL(MB_ERR_STATE, "%s: model '%s' is not built yet", who, model->name);
  return MB_OK;
}

static mb_status check_built_index(const mb_model *model, const char *who, int64_t index) {
  MB_TRY(check_built(model, who));
  return mbi_model_check_index(model, who, index);
}

mb_status mb_model_parameter(mb_tensor **out, mb_model *model, int64_t index) {
  *out = NULL;
  MB_TRY(check_built_index(model, "mb_model_parameter", index));
  *out = model->parameters[index].weight;
  mb_tensor_retain(*out);
  return MB_OK;
}

mb_status mb_model_gradient(mb_tensor **out, mb_model *model, int64_t index) {
  *out = NULL;
  MB_TRY(check_built_index(model, "mb_model_gradient", index));
  return mb_grad(out, model->parameters[index].weight);
}

mb_status mb_model_range(int64_t *begin, int64_t *end, const mb_model *model, int64_t index) {
  MB_TRY(check_built_index(model, "mb_model_range", index));
  *begin = model->parameters[index].begin;
  *end = *begin + mbi_shape_numel(&model->parameters[index].shape);
  return MB_OK;
}

int64_t mb_model_group_count(const mb_model *model) { return model && model->values ? model->group_count : 0; }

int64_t mb_model_group_of(const mb_model *model, int64_t index) {
  return model && model->values && index >= 0 && index < model->count ? model->parameters[index].group : -1;
}

mb_status mb_model_zero_grad(mb_model *model) {
  MB_TRY(check_built(model, "mb_model_zero_grad"));
  for (int64_t i = 0; i < model->count; i++) {
    MB_TRY(mbi_capture_leaf(model->parameters[i].weight, 0));
    model->parameters[i].weight->grad_is_zero = 1;
  }
  mbi_touch(model->gradients);
  return mbi_model_forgive(model);
}

mb_status mb_model_forgive(mb_model *model) {
  MB_TRY(check_built(model, "mb_model_forgive"));
  return mbi_model_forgive(model);
}

// ----- flat buffers -----------------------------------------------------------------------------------------

mb_status mb_model_values(mb_tensor **out, mb_model *model) {
  *out = NULL;
  MB_TRY(check_built(model, "mb_model_values"));
  return mbi_tensor_alias(out, model->values);
}

// Clears the gradients that only a flag says are zero.
mb_status mb_model_settle_gradients(mb_model *model) {
  MB_TRY(check_built(model, "mb_model_settle_gradients"));
  const mbi_device *memory = mbi_memory_of(model->gradients);
  MB_TRY(mbi_late_ids_settle(model->gradients->storage->device));
  size_t element = mbi_dtype_size(model->gradients->dtype);
  for (int64_t i = 0; i < model->count; i++) {
    mbi_parameter *p = &model->parameters[i];
    MB_TRY(mbi_capture_leaf(p->weight, 1));
    if (!p->weight->grad_is_zero) continue;
    char *data = (char *)mbi_data(model->gradients) + (size_t)p->begin * element;
    MB_TRY(memory->zero(data, (size_t)mbi_shape_numel(&p->shape) * element));
    p->weight->grad_is_zero = 0;
  }
  return MB_OK;
}

mb_status mb_model_gradients(mb_tensor **out, mb_model *model) {
  *out = NULL;
  MB_TRY(check_built(model, "mb_model_gradients"));
  MB_TRY(mb_model_settle_gradients(model));
  return mbi_tensor_alias(out, model->gradients);
}

mb_status mb_model_state(mb_tensor **out, mb_model *model) {
  *out = NULL;
  MB_TRY(check_built(model, "mb_model_state"));
  return new_flat(out, model, model->values->dtype, model->values->storage->device, "state of an optimizer");
}

static mb_status check_flat(const mb_model *model, const char *who, const mb_tensor *flat) {
  MB_TRY(mbi_check(flat, who, "flat"));
  char text[MBI_SHAPE_TEXT];
  if (flat->shape.ndim != 1 || flat->shape.size[0] != model->size || !mbi_is_contiguous(flat))
    MB_FAIL(MB_ERR_SHAPE, "%s: flat has shape %s, a contiguous buffer of shape (%lld) was expected", who,
            mbi_shape_text(text, flat->shape.ndim, flat->shape.size), (long long)model->size);
  return MB_OK;
}

mb_status mb_model_view(mb_tensor **out, mb_model *model, mb_tensor *flat, int64_t index) {
  *out = NULL;
  MB_TRY(check_built_index(model, "mb_model_view", index));
  MB_TRY(check_flat(model, "mb_model_view", flat));
  return flat_view(out, flat, &model->parameters[index].shape, model->parameters[index].begin);
}

mb_status mb_model_group_view(mb_tensor **out, mb_model *model, mb_tensor *flat, int64_t group) {
  *out = NULL;
  MB_TRY(check_built(model, "mb_model_group_view"));
  MB_TRY(check_flat(model, "mb_model_group_view", flat));
  if (group < 0 || group >= model->group_count)
    MB_FAIL(MB_ERR_ARG, "mb_model_group_view: model '%s' has no group %lld, it has %lld, counted from 0", model->name,
            (long long)group, (long long)model->group_count);
  const mbi_group *g = &model->groups[group];
  mbi_shape shape = {.ndim = g->shape.ndim + 1, .size = {g->members}};
  for (int d = 0; d < g->shape.ndim; d++) shape.size[d + 1] = g->shape.size[d];
  return flat_view(out, flat, &shape, g->begin);
}

// ----- what a network computes with -------------------------------------------------------------------------

mb_status mb_model_cast(mb_tensor **out, mb_model *model) {
  *out = NULL;
  MB_TRY(check_built(model, "mb_model_cast"));
  if (model->compute == model->values->dtype) return MB_OK;
  // The arena itself is no leaf: nothing is recorded here.
  if (model->rounding == MB_ROUND_STOCHASTIC && model->training) return mb_round_stochastic(out, model->values);
  return mb_cast(out, model->values, model->compute);
}

mb_status mb_model_computed(mb_tensor **out, mb_model *model, mb_tensor *cast, int64_t index) {
  *out = NULL;
  MB_TRY(check_built_index(model, "mb_model_computed", index));
  mbi_parameter *p = &model->parameters[index];
  if (!cast) {
    mb_tensor_retain(*out = p->weight);
    return MB_OK;
  }
  MB_TRY(check_flat(model, "mb_model_computed", cast));
  mb_tensor *view;
  MB_TRY(flat_view(&view, cast, &p->shape, p->begin));
  return mbi_finish(out, view, MB_OK, MBI_OP_cast, &p->weight, 1, NULL, 0, &p->weight->dtype, sizeof p->weight->dtype);
}

// One pass over the whole buffer answers the usual case, that all is finite.
mb_status mb_model_find_nonfinite(int64_t *index, mb_model *model, mb_tensor *flat) {
  MB_TRY(check_built(model, "mb_model_find_nonfinite"));
  MB_TRY(check_flat(model, "mb_model_find_nonfinite", flat));
  MB_TRY(mbi_check_float(flat, "mb_model_find_nonfinite", "flat"));
  const mbi_kernels *kernels = mbi_kernels_of(flat);
  int64_t at;
  MB_TRY(kernels->find_nonfinite(&at, mbi_data(flat), model->size));
  for (int64_t i = 0; at >= 0 && i < model->count; i++) {
    const mbi_parameter *p = &model->parameters[i];
    char *data = (char *)mbi_data(flat) + (size_t)p->begin * mbi_dtype_size(flat->dtype);
    int64_t within;
    MB_TRY(kernels->find_nonfinite(&within, data, mbi_shape_numel(&p->shape)));
    if (within < 0) continue;
    *index = i;
    return MB_OK;
  }
  *index = -1;
  return MB_OK;
}
