// SPDX-License-Identifier: MIT
//
// model.c: a model as a list: parameters by name, the training switch, and the constants that its forward
// functions read. Memory is arena.c's. Tests: tests/c/test_model.c.
#include "autograd/model.h"

#include <string.h>

static const char *const roles[] = {/* ORDER ROLE */ "matrix", "embedding", "head", "vector", "conv"};
enum { ROLE_COUNT = sizeof roles / sizeof *roles, INIT_COUNT = MB_INIT_UNIFORM + 1 };

// ----- checks -----------------------------------------------------------------------------------------

mb_status mbi_model_check(const mb_model *model, const char *who) {
  if (!model) MB_FAIL(MB_ERR_ARG, "%s: model is NULL", who);
  return MB_OK;
}

mb_status mbi_model_check_index(const mb_model *model, const char *who, int64_t index) {
  MB_TRY(mbi_model_check(model, who));
  if (index < 0 || index >= model->count)
    MB_FAIL(MB_ERR_ARG, "%s: model '%s' has no parameter %lld, it has %lld, counted from 0", who, model->name, (long long)index,
            (long long)model->count);
  return MB_OK;
}

// Copies a name into its fixed place.
static mb_status keep_name(char to[MBI_NAME_BYTES], const char *name, const char *who) {
  if (!name || !*name) MB_FAIL(MB_ERR_ARG, "%s: name is %s", who, name ? "empty" : "NULL");
  size_t length = strlen(name);
  if (length >= MBI_NAME_BYTES)
    MB_FAIL(MB_ERR_ARG, "%s: name '%.40s...' has %zu bytes, at most %d fit", who, name, length, MBI_NAME_BYTES - 1);
  memcpy(to, name, length + 1);
  return MB_OK;
}

// ----- life -------------------------------------------------------------------------------------------

mb_status mb_model_new(mb_model **out, const char *name) {
  *out = NULL;
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_model_new", 1, sizeof(mb_model)));
  mb_model *model = memory;
  model->refs = 1;
  model->training = 1;
  mb_status status = keep_name(model->name, name, "mb_model_new");
  if (status == MB_OK) *out = model;
  else mbi_free(model);
  return status;
}

void mb_model_retain(mb_model *model) {
  if (model) model->refs++;
}

void mb_model_release(mb_model *model) {
  if (!model || --model->refs > 0) return;
  for (int64_t i = 0; i < model->count; i++) mb_tensor_release(model->parameters[i].weight);
  mb_tensor_release(model->values);
  mb_tensor_release(model->gradients);
  mb_tensor_release(model->refusal);
  mbi_free(model->parameters);
  mbi_free(model->groups);
  mbi_free(model->config);
  mbi_free(model);
}

// ----- parameters ---------------------------------------------------------------------------------------

static mb_status grow(mb_model *model) {
  if (model->count < model->capacity) return MB_OK;
  int64_t capacity = model->capacity ? 2 * model->capacity : 32;
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_model_add", (size_t)capacity, sizeof *model->parameters));
  if (model->count) memcpy(memory, model->parameters, (size_t)model->count * sizeof *model->parameters);
  mbi_free(model->parameters);
  model->parameters = memory;
  model->capacity = capacity;
  return MB_OK;
}

mb_status mb_model_add(mb_model *model, const char *name, int ndim, const int64_t *shape, mb_role role, mb_init init, double scale) {
  MB_TRY(mbi_model_check(model, "mb_model_add"));
  mbi_parameter p = {.role = role, .init = init, .scale = scale};
  MB_TRY(keep_name(p.name, name, "mb_model_add"));
  if (model->values) MB_FAIL(MB_ERR_STATE, "mb_model_add: '%s' comes too late, model '%s' is built", name, model->name);
  if (mb_model_find(model, name) >= 0) MB_FAIL(MB_ERR_ARG, "mb_model_add: model '%s' already has a parameter '%s'", model->name, name);
  if ((unsigned)role >= ROLE_COUNT) MB_FAIL(MB_ERR_ARG, "mb_model_add: unknown role %d of '%s'", (int)role, name);
  if ((unsigned)init >= INIT_COUNT) MB_FAIL(MB_ERR_ARG, "mb_model_add: unknown init %d of '%s'", (int)init, name);
  if (!(scale >= 0 && scale < 1e30)) MB_FAIL(MB_ERR_ARG, "mb_model_add: scale of '%s' is %g, a number >= 0 was expected", name, scale);
  char text[MBI_SHAPE_TEXT];
  MB_TRY(mbi_shape_make(&p.shape, "mb_model_add", ndim, shape));
  // A group puts a dimension in front of its members'.
  int lowest = role == MB_ROLE_VECTOR ? 0 : 2, highest = MB_MAX_DIMS - 1;
  if (ndim < lowest || ndim > highest)
    MB_FAIL(MB_ERR_SHAPE, "mb_model_add: '%s' has shape %s, role %s takes %d to %d dimensions", name,
            mbi_shape_text(text, ndim, shape), roles[role], lowest, highest);
  MB_TRY(grow(model));
  model->parameters[model->count++] = p;
  return MB_OK;
}

int64_t mb_model_count(const mb_model *model) { return model ? model->count : 0; }

int64_t mb_model_find(const mb_model *model, const char *name) {
  for (int64_t i = 0; model && name && i < model->count; i++)
    if (strcmp(model->parameters[i].name, name) == 0) return i;
  return -1;
}

static const mbi_parameter *parameter_or_null(const mb_model *model, int64_t index) {
  return model && index >= 0 && index < model->count ? &model->parameters[index] : NULL;
}

const char *mb_model_name(const mb_model *model, int64_t index) {
  const mbi_parameter *p = parameter_or_null(model, index);
  return p ? p->name : NULL;
}

mb_role mb_model_role(const mb_model *model, int64_t index) {
  const mbi_parameter *p = parameter_or_null(model, index);
  return p ? p->role : MB_ROLE_MATRIX;
}

mb_tensor *mb_model_weight(const mb_model *model, int64_t index) {
  const mbi_parameter *p = parameter_or_null(model, index);
  return p ? p->weight : NULL;
}

// ----- the rest of a model --------------------------------------------------------------------------------

void mb_model_set_training(mb_model *model, int training) {
  if (model) model->training = training != 0;
}
int mb_model_training(const mb_model *model) { return model && model->training; }
mb_rounding mb_model_rounding(const mb_model *model) { return model ? model->rounding : MB_ROUND_NEAREST; }

mb_status mb_model_set_rounding(mb_model *model, mb_rounding rounding) {
  const char *who = "mb_model_set_rounding";
  MB_TRY(mbi_model_check(model, who));
  if (rounding != MB_ROUND_NEAREST && rounding != MB_ROUND_STOCHASTIC) MB_FAIL(MB_ERR_ARG, "%s: unknown rounding %d", who, (int)rounding);
  if (rounding == MB_ROUND_STOCHASTIC && model->compute != MB_BF16)
    MB_FAIL(MB_ERR_ARG, "%s: model '%s' computes with %s; only weights that are cast to bf16 are rounded", who, model->name,
            mbi_dtype_name(model->compute));
  model->rounding = rounding;
  return MB_OK;
}

mb_dtype mb_model_compute(const mb_model *model) { return model ? model->compute : MB_F32; }

mb_status mb_model_set_config(mb_model *model, const void *config, size_t bytes) {
  MB_TRY(mbi_model_check(model, "mb_model_set_config"));
  if (!config || !bytes) MB_FAIL(MB_ERR_ARG, "mb_model_set_config: config of model '%s' is empty", model->name);
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_model_set_config", 1, bytes));
  memcpy(memory, config, bytes);
  mbi_free(model->config);
  model->config = memory;
  return MB_OK;
}

mb_status mb_model_config(const void **out, const mb_model *model, const char *name) {
  *out = NULL;
  MB_TRY(mbi_model_check(model, "mb_model_config"));
  if (!name || strcmp(name, model->name) != 0)
    MB_FAIL(MB_ERR_ARG, "mb_model_config: the model is a '%s', a '%s' was expected", model->name, name ? name : "(NULL)");
  if (!model->config) MB_FAIL(MB_ERR_STATE, "mb_model_config: model '%s' has no configuration", name);
  *out = model->config;
  return MB_OK;
}
