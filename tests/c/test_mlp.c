// SPDX-License-Identifier: MIT
//
// test_mlp.c: the fully connected model against the same layers computed by hand, its gradients by finite
// differences, and wrong use.
#include "check.h"

static int64_t live(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
}

static double act(mb_activation f, double x) {
  switch (f) {
    case MB_ACT_RELU: return x > 0 ? x : 0;
    case MB_ACT_TANH: return tanh(x);
    case MB_ACT_GELU: return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    default: return x / (1 + exp(-x));
  }
}

static double *values_of(mb_tensor *t) {
  void *data;
  CHECK_OK(mb_tensor_data(&data, t));
  return data;
}

static double *parameter(mb_model *model, const char *name) {
  int64_t i = mb_model_find(model, name);
  CHECK(i >= 0);
  return values_of(mb_model_weight(model, i));
}

// y[o] = f(sum_i w[o][i] x[i] + b[o])
static void layer(double *y, const double *x, const double *w, const double *b, int n_in, int n_out, int last, mb_activation f) {
  for (int o = 0; o < n_out; o++) {
    double sum = b ? b[o] : 0;
    for (int i = 0; i < n_in; i++) sum += w[o * n_in + i] * x[i];
    y[o] = last ? sum : act(f, sum);
  }
}

enum { B = 3, IN = 5, HIDDEN = 7, OUT = 2 };

static void forward_matches_by_hand(mb_activation f, int bias) {
  mb_mlp_config config = {IN, HIDDEN, 2, OUT, bias, f};
  mb_model *model;
  CHECK_OK(mb_mlp_new(&model, &config, MB_F64, MB_CPU, 11));
  CHECK_EQ(mb_model_count(model), bias ? 6 : 3);
  mb_tensor *x, *y;
  mb_rng_seed(3);
  CHECK_OK(mb_randn(&x, MB_F64, 2, (int64_t[]){B, IN}, MB_CPU));
  CHECK_OK(mb_mlp_forward(&y, model, x));
  for (int row = 0; row < B; row++) {
    double h0[HIDDEN], h1[HIDDEN], expected[OUT];
    const double *b0 = bias ? parameter(model, "layers.0.bias") : NULL, *b1 = bias ? parameter(model, "layers.1.bias") : NULL;
    const double *b2 = bias ? parameter(model, "layers.2.bias") : NULL;
    layer(h0, values_of(x) + row * IN, parameter(model, "layers.0.weight"), b0, IN, HIDDEN, 0, f);
    layer(h1, h0, parameter(model, "layers.1.weight"), b1, HIDDEN, HIDDEN, 0, f);
    layer(expected, h1, parameter(model, "layers.2.weight"), b2, HIDDEN, OUT, 1, f);
    for (int o = 0; o < OUT; o++) CHECK_NEAR(values_of(y)[row * OUT + o], expected[o], 1e-13);
  }
  for (int i = 0; i < HIDDEN * IN; i++) CHECK(fabs(parameter(model, "layers.0.weight")[i]) <= 1 / sqrt(IN));
  mb_tensor_release(x), mb_tensor_release(y);
  mb_model_release(model);
}

static double loss_of(mb_model *model, mb_tensor *x, int backward) {
  mb_tensor *y, *squares, *loss;
  double value;
  CHECK_OK(mb_mlp_forward(&y, model, x));
  CHECK_OK(mb_square(&squares, y));
  CHECK_OK(mb_sum(&loss, squares, 0, NULL, 0));
  CHECK_OK(mb_tensor_item(&value, loss));
  mb_tensor_release(y), mb_tensor_release(squares);
  if (backward) CHECK_OK(mb_backward(loss, NULL));
  mb_tensor_release(loss);
  return value;
}

static void gradients_match_differences(void) {
  mb_mlp_config config = {IN, HIDDEN, 2, OUT, 1, MB_ACT_TANH};
  mb_model *model;
  CHECK_OK(mb_mlp_new(&model, &config, MB_F64, MB_CPU, 5));
  mb_tensor *x;
  CHECK_OK(mb_randn(&x, MB_F64, 2, (int64_t[]){B, IN}, MB_CPU));
  loss_of(model, x, 1);
  for (int64_t p = 0; p < mb_model_count(model); p++) {
    mb_tensor *g;
    CHECK_OK(mb_model_gradient(&g, model, p));
    double *w = values_of(mb_model_weight(model, p)), *dw = values_of(g);
    for (int64_t i = 0; i < mb_tensor_numel(g); i++) {
      double kept = w[i], h = 1e-5;
      w[i] = kept + h;
      double above = loss_of(model, x, 0);
      w[i] = kept - h;
      double below = loss_of(model, x, 0);
      w[i] = kept;
      CHECK_NEAR(dw[i], (above - below) / (2 * h), 1e-8);
    }
    mb_tensor_release(g);
  }
  mb_tensor_release(x);
  mb_model_release(model);
}

static void wrong_use_is_refused(void) {
  mb_model *model;
  mb_mlp_config config = {IN, HIDDEN, 1, OUT, 1, MB_ACT_RELU};
  CHECK_FAILS(MB_ERR_ARG, "config is NULL", mb_mlp_new(&model, NULL, MB_F32, MB_CPU, 1));
  config.n_hidden = 0;
  CHECK_FAILS(MB_ERR_ARG, "n_hidden is 0", mb_mlp_new(&model, &config, MB_F32, MB_CPU, 1));
  CHECK(model == NULL);
  config.n_hidden = HIDDEN;
  config.activation = (mb_activation)17;
  CHECK_FAILS(MB_ERR_ARG, "unknown activation 17", mb_mlp_new(&model, &config, MB_F32, MB_CPU, 1));
  config.activation = MB_ACT_SILU;
  CHECK_OK(mb_mlp_new(&model, &config, MB_F32, MB_CPU, 1));
  mb_tensor *x, *y;
  CHECK_FAILS(MB_ERR_ARG, "x is NULL", mb_mlp_forward(&y, model, NULL));
  CHECK_OK(mb_full(&x, MB_F32, 2, (int64_t[]){B, IN + 1}, MB_CPU, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "(3, 6)", mb_mlp_forward(&y, model, x));
  CHECK(y == NULL);
  mb_tensor_release(x);
  mb_model_release(model);
  // A model of another kind is told apart.
  CHECK_OK(mb_model_new(&model, "other"));
  CHECK_FAILS(MB_ERR_ARG, "is a 'other', a 'mlp'", mb_mlp_forward(&y, model, NULL));
  mb_model_release(model);
  CHECK_EQ(mb_fail(MB_ERR_IO, "%s: %d", "text", 3), MB_ERR_IO);
  CHECK(strcmp(mb_last_error(), "text: 3") == 0);
}

int main(void) {
  int64_t before = live();
  for (int f = MB_ACT_RELU; f <= MB_ACT_SILU; f++)
    for (int bias = 0; bias < 2; bias++) forward_matches_by_hand((mb_activation)f, bias);
  gradients_match_differences();
  wrong_use_is_refused();
  CHECK_EQ(live(), before);
  return check_end();
}
