// SPDX-License-Identifier: MIT
//
// flow.h: a value on its way through a network. Each step replaces the value by the result of an operation
// and lets go of the old one, so that what is still needed belongs to the tape alone, which frees it as
// early as it can and may overwrite it. The first failure drops the value and turns all later steps into
// nothing; flow_end reports it. A forward function thus reads as the formula it computes:
//
//   flow f = flow_begin(model, input);
//   flow_linear(&f, W, B);
//   flow_relu(&f);
//   return flow_end(&f, out);
#ifndef MODELS_FLOW_H
#define MODELS_FLOW_H
#include "moonbow.h"

typedef struct flow {
  mb_model *model;  // whose parameters the steps use, by index
  mb_tensor *value; // owned; NULL after a failure
  mb_tensor *cast;  // owned by the flow that began: the model's weights as it computes with them, or NULL
  mb_status status; // of the first failure
  int for_loss;     // the result goes into a loss and nowhere else
  uint64_t seed, step, stream; // the generator's state at the start, put back after a failure
} flow;

// `input` is borrowed: ids, or numbers, which become those that the model computes with.
static inline flow flow_begin(mb_model *model, mb_tensor *input) {
  flow f = {.model = model, .value = NULL, .status = MB_OK};
  mb_rng_get(&f.seed, &f.step, &f.stream);
  f.status = mb_model_cast(&f.cast, model);
  if (f.status != MB_OK) return f;
  if (mb_model_compute(model) == MB_BF16 && mb_tensor_dtype(input) == MB_F32) f.status = mb_cast(&f.value, input, MB_BF16);
  else mb_tensor_retain(f.value = input);
  return f;
}

// Hands the value out, or reports what went wrong. Ends the flow.
static inline mb_status flow_end(flow *f, mb_tensor **out) {
  *out = f->value;
  f->value = NULL;
  mb_tensor_release(f->cast);
  f->cast = NULL;
  if (f->status != MB_OK) mb_rng_set(f->seed, f->step, f->stream);
  return f->status;
}

static inline int flow_is_on(const flow *f) { return f->status == MB_OK; }

// The result of an operation takes the value's place; `result` is NULL if the operation failed.
static inline void flow_step(flow *f, mb_status status, mb_tensor *result) {
  mb_tensor_release(f->value);
  f->value = result;
  f->status = status;
}

// The weight of parameter `index` as the model computes with it, to be released; NULL, for ops that allow it, if the index
// is negative, and after a failure.
static inline mb_tensor *flow_weight(flow *f, int64_t index) {
  mb_tensor *weight = NULL;
  if (index >= 0 && flow_is_on(f)) f->status = mb_model_computed(&weight, f->model, f->cast, index);
  return weight;
}

// Ends a step that used two weights: lets go of them, and takes the result unless a weight was missing.
static inline void flow_step_with(flow *f, mb_status status, mb_tensor *result, mb_tensor *a, mb_tensor *b) {
  mb_tensor_release(a);
  mb_tensor_release(b);
  flow_step(f, f->status == MB_OK ? status : f->status, result);
}

static inline void flow_linear(flow *f, int64_t weight, int64_t bias) {
  if (!flow_is_on(f)) return;
  mb_tensor *w = flow_weight(f, weight), *b = flow_weight(f, bias), *y = NULL;
  mb_status status = flow_is_on(f) ? mb_linear(&y, f->value, w, b) : f->status;
  flow_step_with(f, status, y, w, b);
}

// flow_linear without a bias, the last step of a network: what a loss reads has rows that products like.
static inline void flow_head(flow *f, int64_t weight) {
  if (!flow_is_on(f)) return;
  mb_tensor *w = flow_weight(f, weight), *y = NULL;
  mb_status status = !flow_is_on(f) ? f->status : f->for_loss ? mb_linear_aligned(&y, f->value, w, NULL) : mb_linear(&y, f->value, w, NULL);
  flow_step_with(f, status, y, w, NULL);
}

// flow_head and the loss in one, by chunks of rows.
static inline void flow_head_loss(flow *f, int64_t weight, mb_tensor *targets, int64_t chunks, const mb_cross_entropy_options *options) {
  if (!flow_is_on(f)) return;
  mb_tensor *w = flow_weight(f, weight), *y = NULL;
  mb_status status = flow_is_on(f) ? mb_linear_cross_entropy(&y, f->value, w, targets, chunks, options) : f->status;
  flow_step_with(f, status, y, w, NULL);
}

// flow_linear, flow_apply(f, mb_gelu_tanh) and flow_linear in one; `keep`: as much is kept as by the three.
static inline void flow_gelu_mlp(flow *f, int64_t weight, int64_t bias, int64_t weight_out, int64_t bias_out, int keep) {
  if (!flow_is_on(f)) return;
  mb_tensor *w = flow_weight(f, weight), *b = flow_weight(f, bias), *y = NULL;
  mb_tensor *wo = flow_weight(f, weight_out), *bo = flow_weight(f, bias_out);
  mb_status status = flow_is_on(f) ? mb_gelu_mlp(&y, f->value, w, b, wo, bo, keep) : f->status;
  mb_tensor_release(wo);
  mb_tensor_release(bo);
  flow_step_with(f, status, y, w, b);
}

static inline void flow_layernorm(flow *f, int64_t weight, int64_t bias, double epsilon) {
  if (!flow_is_on(f)) return;
  mb_tensor *w = flow_weight(f, weight), *b = flow_weight(f, bias), *y = NULL;
  mb_status status = flow_is_on(f) ? mb_layernorm(&y, f->value, w, b, epsilon) : f->status;
  flow_step_with(f, status, y, w, b);
}

// In a residual network, whose stream the flow keeps aside in *stream: the value, what a branch has come to, is added to the stream,
// and becomes the layer norm of that. A stream that is NULL begins with the value. The caller ends with mb_tensor_release(stream),
// also after a failure.
static inline void flow_add_layernorm(flow *f, mb_tensor **stream, int64_t weight, int64_t bias, double epsilon) {
  if (!flow_is_on(f)) return;
  if (!*stream) {
    mb_tensor_retain(*stream = f->value);
    flow_layernorm(f, weight, bias, epsilon);
    return;
  }
  mb_tensor *w = flow_weight(f, weight), *b = flow_weight(f, bias), *y = NULL, *sum = NULL;
  mb_status status = flow_is_on(f) ? mb_add_layernorm(&y, &sum, f->value, *stream, w, b, epsilon) : f->status;
  flow_step_with(f, status, y, w, b);
  mb_tensor_release(*stream);
  *stream = sum;
}

// The same with an RMS norm without a weight.
static inline void flow_add_rmsnorm(flow *f, mb_tensor **stream, double epsilon) {
  if (!flow_is_on(f)) return;
  mb_tensor *y = NULL, *sum = NULL;
  mb_status status = *stream ? mb_add_rmsnorm(&y, &sum, f->value, *stream, NULL, epsilon) : mb_rmsnorm(&y, f->value, NULL, epsilon);
  if (!*stream) mb_tensor_retain(sum = f->value);
  flow_step(f, status, y);
  mb_tensor_release(*stream);
  *stream = sum;
}

// The value is a batch of ids; it becomes the rows of the table that they name.
static inline void flow_embedding(flow *f, int64_t table) {
  if (!flow_is_on(f)) return;
  mb_tensor *w = flow_weight(f, table), *y = NULL;
  mb_status status = flow_is_on(f) ? mb_embedding(&y, w, f->value) : f->status;
  flow_step_with(f, status, y, w, NULL);
}

static inline void flow_attention(flow *f, int64_t n_head) {
  if (!flow_is_on(f)) return;
  mb_tensor *y;
  mb_status status = mb_attention_packed(&y, f->value, n_head, 0.0);
  flow_step(f, status, y);
}

// Acts in training only.
static inline void flow_dropout(flow *f, double p) {
  if (!flow_is_on(f) || p == 0.0 || !mb_model_training(f->model)) return;
  mb_tensor *y;
  mb_status status = mb_dropout(&y, f->value, p);
  flow_step(f, status, y);
}

// A function of one tensor, element by element: flow_apply(f, mb_relu).
static inline void flow_apply(flow *f, mb_status (*function)(mb_tensor **out, mb_tensor *x)) {
  if (!flow_is_on(f)) return;
  mb_tensor *y;
  mb_status status = function(&y, f->value);
  flow_step(f, status, y);
}

// value + other; takes over the reference of `other`, also when the flow has failed.
static inline void flow_add(flow *f, mb_tensor *other) {
  if (flow_is_on(f)) {
    mb_tensor *y;
    mb_status status = mb_add(&y, f->value, other);
    flow_step(f, status, y);
  }
  mb_tensor_release(other);
}
#endif
