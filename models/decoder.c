// SPDX-License-Identifier: MIT
//
// decoder.c: see decoder.h.
#include "decoder.h"

#include <stdio.h>

enum { MOST_LAYERS = 1024 };

mb_status decoder_check_sizes(const decoder_sizes *s, const char *who) {
  const struct {
    const char *name;
    int64_t value, most;
  } sizes[] = {
    {"vocab_size", s->vocab_size, INT32_MAX}, {"block_size", s->block_size, INT32_MAX}, {"n_layer", s->n_layer, MOST_LAYERS},
    {"n_head", s->n_head, INT32_MAX},         {"n_embd", s->n_embd, INT32_MAX / 4},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    if (sizes[i].value < 1 || sizes[i].value > sizes[i].most)
      return mb_fail(MB_ERR_ARG, "%s: %s is %lld, a number from 1 to %lld was expected", who, sizes[i].name, (long long)sizes[i].value,
                     (long long)sizes[i].most);
  if (s->n_embd % s->n_head != 0)
    return mb_fail(MB_ERR_ARG, "%s: n_embd %lld is not divisible by n_head %lld", who, (long long)s->n_embd, (long long)s->n_head);
  if (!(s->dropout >= 0 && s->dropout < 1))
    return mb_fail(MB_ERR_ARG, "%s: dropout is %g, a number in [0, 1) was expected", who, s->dropout);
  return MB_OK;
}

mb_status decoder_check_inputs(const decoder_sizes *s, const mb_tensor *inputs, int64_t first, const char *who) {
  if (!inputs) return mb_fail(MB_ERR_ARG, "%s: inputs is NULL, ids (B, T) were expected", who);
  if (mb_tensor_ndim(inputs) != 2)
    return mb_fail(MB_ERR_SHAPE, "%s: inputs has %d dimensions, ids (B, T) were expected", who, mb_tensor_ndim(inputs));
  int64_t T = mb_tensor_shape(inputs)[1];
  if (first == 0 && T > s->block_size)
    return mb_fail(MB_ERR_SHAPE, "%s: inputs have %lld tokens, the model's block_size is %lld", who, (long long)T, (long long)s->block_size);
  if (first < 0 || first > s->block_size - T)
    return mb_fail(MB_ERR_ARG, "%s: inputs have %lld tokens from position %lld on, the model's block_size is %lld", who, (long long)T,
                   (long long)first, (long long)s->block_size);
  return MB_OK;
}

mb_status decoder_add_matrix(mb_model *model, const char *prefix, const char *name, int64_t out, int64_t in, mb_role role, double std) {
  char full[96];
  int64_t shape[2] = {out, in};
  snprintf(full, sizeof full, "%s%s.weight", prefix, name);
  return mb_model_add(model, full, 2, shape, role, MB_INIT_NORMAL, std);
}

mb_status decoder_loss(mb_tensor **out, decoder_logits *logits, mb_model *model, mb_tensor *inputs, mb_tensor *targets,
                       const mb_cross_entropy_options *options) {
  mb_tensor *value;
  uint64_t seed, step, stream;
  *out = NULL;
  mb_rng_get(&seed, &step, &stream);
  mb_status status = logits(&value, model, inputs);
  if (status != MB_OK) return status;
  status = mb_cross_entropy(out, value, targets, options);
  if (status != MB_OK) mb_rng_set(seed, step, stream);
  mb_tensor_release(value); // the tape's alone from here: backward writes its gradient over it
  return status;
}

// ----- generation -------------------------------------------------------------------------------------------

mb_status decoder_cache(mb_tensor **out, mb_model *model, const decoder_sizes *s, int64_t batch, const char *who) {
  if (batch < 1) return mb_fail(MB_ERR_ARG, "%s: batch is %lld, at least 1 was expected", who, (long long)batch);
  int64_t shape[6] = {s->n_layer, 2, batch, s->n_head, s->block_size, s->n_embd / s->n_head};
  return mb_full(out, mb_model_compute(model), 6, shape, mb_tensor_device(mb_model_weight(model, 0)), 0.0);
}

mb_status decoder_check_cache(const decoder_sizes *s, const mb_tensor *cache, const mb_tensor *inputs, const char *who) {
  if (!cache) return mb_fail(MB_ERR_ARG, "%s: cache is NULL, one of the model's was expected", who);
  int64_t batch = mb_tensor_shape(inputs)[0];
  int64_t expected[6] = {s->n_layer, 2, batch, s->n_head, s->block_size, s->n_embd / s->n_head};
  int fits = mb_tensor_ndim(cache) == 6;
  for (int i = 0; fits && i < 6; i++) fits = mb_tensor_shape(cache)[i] == expected[i];
  if (!fits) return mb_fail(MB_ERR_SHAPE, "%s: the cache is not one of this model for %lld sequences", who, (long long)batch);
  return MB_OK;
}

// The layer's part of the cache, (2, B, H, N, D), a view.
static mb_status cache_of(mb_tensor **out, mb_tensor *cache, int64_t layer) {
  mb_tensor *one;
  mb_status status = mb_slice(&one, cache, 0, layer, layer + 1, 1);
  if (status != MB_OK) return status;
  status = mb_reshape(out, one, 5, mb_tensor_shape(cache) + 1);
  mb_tensor_release(one);
  return status;
}

void decoder_attend(flow *f, mb_tensor *cache, int64_t layer, int64_t first) {
  if (!flow_is_on(f)) return;
  mb_tensor *part = NULL, *y = NULL;
  mb_status status = cache_of(&part, cache, layer);
  if (status == MB_OK) status = mb_attention_cached(&y, f->value, part, first, 0.0);
  mb_tensor_release(part);
  flow_step(f, status, y);
}

void decoder_last_position(flow *f) {
  if (!flow_is_on(f)) return;
  const int64_t *shape = mb_tensor_shape(f->value);
  int64_t B = shape[0], T = shape[1], C = shape[2];
  mb_tensor *last, *rows = NULL;
  mb_status status = mb_slice(&last, f->value, 1, T - 1, T, 1);
  if (status == MB_OK) status = mb_reshape(&rows, last, 2, (int64_t[]){B, C});
  mb_tensor_release(last);
  flow_step(f, status, rows);
}
