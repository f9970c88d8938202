// SPDX-License-Identifier: MIT
//
// mlp.c: a stack of fully connected layers, x -> activation(W x + b), n_layer times, and a last linear layer
// without activation. Initial values are PyTorch's for linear layers, weights and biases uniform in
// +-1 / sqrt(inputs of the layer). Names: "layers.0.weight", "layers.0.bias", ..., as torch.nn has them.
#include <math.h>
#include <stdio.h>

#include "flow.h"

enum { MOST_LAYERS = 1024 };

static mb_status (*const activations[])(mb_tensor **out, mb_tensor *x) = {
  /* ORDER ACTIVATION */ mb_relu, mb_tanh, mb_gelu_tanh, mb_silu,
};

static mb_status check_config(const mb_mlp_config *c) {
  const struct {
    const char *name;
    int64_t value, least, most;
  } sizes[] = {
    {"n_input", c->n_input, 1, INT32_MAX}, {"n_hidden", c->n_hidden, 1, INT32_MAX},
    {"n_layer", c->n_layer, 0, MOST_LAYERS}, {"n_output", c->n_output, 1, INT32_MAX},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    if (sizes[i].value < sizes[i].least || sizes[i].value > sizes[i].most)
      return mb_fail(MB_ERR_ARG, "mb_mlp_new: %s is %lld, a number from %lld to %lld was expected", sizes[i].name,
                     (long long)sizes[i].value, (long long)sizes[i].least, (long long)sizes[i].most);
  if ((size_t)c->activation >= sizeof activations / sizeof *activations)
    return mb_fail(MB_ERR_ARG, "mb_mlp_new: unknown activation %d", (int)c->activation);
  return MB_OK;
}

static mb_status add_layer(mb_model *model, const mb_mlp_config *c, int64_t layer) {
  int64_t shape[2] = {layer == c->n_layer ? c->n_output : c->n_hidden, layer == 0 ? c->n_input : c->n_hidden};
  double half_width = 1.0 / sqrt((double)shape[1]);
  char name[48];
  snprintf(name, sizeof name, "layers.%lld.weight", (long long)layer);
  mb_status status = mb_model_add(model, name, 2, shape, MB_ROLE_MATRIX, MB_INIT_UNIFORM, half_width);
  if (status != MB_OK || !c->bias) return status;
  snprintf(name, sizeof name, "layers.%lld.bias", (long long)layer);
  return mb_model_add(model, name, 1, shape, MB_ROLE_VECTOR, MB_INIT_UNIFORM, half_width);
}

mb_status mb_mlp_new(mb_model **out, const mb_mlp_config *config, mb_dtype dtype, mb_device device, uint64_t seed) {
  *out = NULL;
  if (!config) return mb_fail(MB_ERR_ARG, "mb_mlp_new: config is NULL");
  mb_model *model;
  mb_status status = check_config(config);
  if (status == MB_OK) status = mb_model_new(&model, "mlp");
  if (status != MB_OK) return status;
  for (int64_t layer = 0; layer <= config->n_layer && status == MB_OK; layer++) status = add_layer(model, config, layer);
  if (status == MB_OK) status = mb_model_build(model, dtype, device, seed);
  if (status == MB_OK) status = mb_model_set_config(model, config, sizeof *config);
  if (status == MB_OK) *out = model;
  else mb_model_release(model);
  return status;
}

mb_status mb_mlp_forward(mb_tensor **out, mb_model *model, mb_tensor *x) {
  *out = NULL;
  const void *config;
  mb_status status = mb_model_config(&config, model, "mlp");
  if (status != MB_OK) return status;
  const mb_mlp_config *c = config;
  if (!x) return mb_fail(MB_ERR_ARG, "mb_mlp_forward: x is NULL, a batch (B, %lld) was expected", (long long)c->n_input);

  int64_t per_layer = c->bias ? 2 : 1;
  flow f = flow_begin(model, x);
  for (int64_t layer = 0; layer <= c->n_layer; layer++) {
    flow_linear(&f, layer * per_layer, c->bias ? layer * per_layer + 1 : -1);
    if (layer < c->n_layer) flow_apply(&f, activations[c->activation]);
  }
  return flow_end(&f, out);
}
