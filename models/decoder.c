// SPDX-License-Identifier: MIT
//
// decoder.c: see decoder.h.
#include "decoder.h"

#include <stdio.h>

enum { MOST_LAYERS = 1024 };

static mb_status check_sizes(const decoder_sizes *s, const char *prefix) {
  const struct {
    const char *name;
    int64_t value, most;
  } sizes[] = {
    {"vocab_size", s->vocab_size, INT32_MAX}, {"block_size", s->block_size, INT32_MAX}, {"n_layer", s->n_layer, MOST_LAYERS},
    {"n_head", s->n_head, INT32_MAX},         {"n_embd", s->n_embd, INT32_MAX / 4},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    if (sizes[i].value < 1 || sizes[i].value > sizes[i].most)
      return mb_fail(MB_ERR_ARG, "%s_new: %s is %lld, a number from 1 to %lld was expected", prefix, sizes[i].name, (long long)sizes[i].value,
                     (long long)sizes[i].most);
  if (s->n_embd % s->n_head != 0)
    return mb_fail(MB_ERR_ARG, "%s_new: n_embd %lld is not divisible by n_head %lld", prefix, (long long)s->n_embd, (long long)s->n_head);
  if (s->head_chunks < 0)
    return mb_fail(MB_ERR_ARG, "%s_new: head_chunks is %d, a number of chunks was expected, or 0", prefix, s->head_chunks);
  if (!(s->dropout >= 0 && s->dropout < 1))
    return mb_fail(MB_ERR_ARG, "%s_new: dropout is %g, a number in [0, 1) was expected", prefix, s->dropout);
  return MB_OK;
}

mb_status decoder_new(const decoder *d, mb_model **out, const void *config, mb_dtype dtype, mb_device device, uint64_t seed) {
  *out = NULL;
  if (!config) return mb_fail(MB_ERR_ARG, "%s_new: config is NULL", d->prefix);
  mb_model *model;
  decoder_sizes sizes = d->sizes(config);
  mb_status status = check_sizes(&sizes, d->prefix);
  if (status == MB_OK && d->check) status = d->check(config);
  if (status == MB_OK) status = mb_model_new(&model, d->name);
  if (status != MB_OK) return status;
  status = d->add_parameters(model, config);
  if (status == MB_OK) status = mb_model_build(model, dtype, device, seed);
  if (status == MB_OK) status = mb_model_set_config(model, config, d->config_bytes);
  if (status == MB_OK) *out = model;
  else mb_model_release(model);
  return status;
}

mb_status decoder_add_matrix(mb_model *model, const char *prefix, const char *name, int64_t out, int64_t in, mb_role role, double std) {
  char full[96];
  int64_t shape[2] = {out, in};
  snprintf(full, sizeof full, "%s%s.weight", prefix, name);
  return mb_model_add(model, full, 2, shape, role, MB_INIT_NORMAL, std);
}

// ----- forward ----------------------------------------------------------------------------------------------

// The pass of a model that decoder_new made.
static mb_status begin(decoder_pass *p, const decoder *d, mb_model *model) {
  *p = (decoder_pass){0};
  mb_status status = mb_model_config(&p->config, model, d->name);
  if (status != MB_OK) return status;
  p->sizes = d->sizes(p->config);
  return MB_OK;
}

// ids (B, T) at positions first .. first + T - 1, below block_size; `function` is "_logits" or the like.
static mb_status check_inputs(const decoder *d, const decoder_pass *p, const mb_tensor *inputs, const char *function) {
  if (!inputs) return mb_fail(MB_ERR_ARG, "%s%s: inputs is NULL, ids (B, T) were expected", d->prefix, function);
  if (mb_tensor_ndim(inputs) != 2)
    return mb_fail(MB_ERR_SHAPE, "%s%s: inputs has %d dimensions, ids (B, T) were expected", d->prefix, function, mb_tensor_ndim(inputs));
  int64_t T = mb_tensor_shape(inputs)[1], block_size = p->sizes.block_size;
  if (p->first == 0 && T > block_size)
    return mb_fail(MB_ERR_SHAPE, "%s%s: inputs have %lld tokens, the model's block_size is %lld", d->prefix, function, (long long)T,
                   (long long)block_size);
  if (p->first < 0 || p->first > block_size - T)
    return mb_fail(MB_ERR_ARG, "%s%s: inputs have %lld tokens from position %lld on, the model's block_size is %lld", d->prefix, function,
                   (long long)T, (long long)p->first, (long long)block_size);
  return MB_OK;
}

// What the head reads, (B, T, C), in a flow that begins here, and the pass.
static mb_status forward(const decoder *d, flow *f, decoder_pass *p, mb_model *model, mb_tensor *inputs) {
  mb_status status = begin(p, d, model);
  if (status == MB_OK) status = check_inputs(d, p, inputs, "_logits");
  if (status != MB_OK) return status;
  p->dropout = p->sizes.dropout;
  mb_tensor *stream = NULL;
  *f = flow_begin(model, inputs);
  d->trunk(f, p, &stream);
  d->last_norm(f, p->config, &stream);
  mb_tensor_release(stream);
  return MB_OK;
}

mb_status decoder_logits(const decoder *d, mb_tensor **out, mb_model *model, mb_tensor *inputs) {
  flow f;
  decoder_pass p;
  *out = NULL;
  mb_status status = forward(d, &f, &p, model, inputs);
  if (status != MB_OK) return status;
  flow_head(&f, d->head(p.config));
  return flow_end(&f, out);
}

// The value, logits, becomes their loss, which may write over them.
static void loss_of_logits(flow *f, mb_tensor *targets, const mb_cross_entropy_options *options) {
  if (!flow_is_on(f)) return;
  mb_tensor *loss;
  mb_status status = mb_cross_entropy(&loss, f->value, targets, options);
  flow_step(f, status, loss);
}

mb_status decoder_loss(const decoder *d, mb_tensor **out, mb_model *model, mb_tensor *inputs, mb_tensor *targets,
                       const mb_cross_entropy_options *options) {
  flow f;
  decoder_pass p;
  mb_cross_entropy_options with = options ? *options : (mb_cross_entropy_options){.ignore_index = -1};
  *out = NULL;
  with.overwrites = 1;
  mb_status status = forward(d, &f, &p, model, inputs);
  if (status != MB_OK) return status;
  f.for_loss = 1;
  if (p.sizes.head_chunks > 1) {
    flow_head_loss(&f, d->head(p.config), targets, p.sizes.head_chunks, &with);
  } else {
    flow_head(&f, d->head(p.config));
    loss_of_logits(&f, targets, &with);
  }
  return flow_end(&f, out);
}

// ----- generation -------------------------------------------------------------------------------------------

mb_status decoder_cache(const decoder *d, mb_tensor **out, mb_model *model, int64_t batch) {
  *out = NULL;
  decoder_pass p;
  mb_status status = begin(&p, d, model);
  if (status != MB_OK) return status;
  if (batch < 1) return mb_fail(MB_ERR_ARG, "%s_cache: batch is %lld, at least 1 was expected", d->prefix, (long long)batch);
  const decoder_sizes *s = &p.sizes;
  int64_t shape[6] = {s->n_layer, 2, batch, s->n_head, s->block_size, s->n_embd / s->n_head};
  return mb_full(out, mb_model_compute(model), 6, shape, mb_tensor_device(mb_model_weight(model, 0)), 0.0);
}

static mb_status check_cache(const decoder *d, const decoder_pass *p, const mb_tensor *inputs) {
  const decoder_sizes *s = &p->sizes;
  if (!p->cache) return mb_fail(MB_ERR_ARG, "%s_next: cache is NULL, one of %s_cache was expected", d->prefix, d->prefix);
  int64_t batch = mb_tensor_shape(inputs)[0];
  int64_t expected[6] = {s->n_layer, 2, batch, s->n_head, s->block_size, s->n_embd / s->n_head};
  int fits = mb_tensor_ndim(p->cache) == 6;
  for (int i = 0; fits && i < 6; i++) fits = mb_tensor_shape(p->cache)[i] == expected[i];
  if (!fits)
    return mb_fail(MB_ERR_SHAPE, "%s_next: the cache is not one of this model for %lld sequences", d->prefix, (long long)batch);
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

void decoder_attend(flow *f, const decoder_pass *p, int64_t layer) {
  if (!flow_is_on(f)) return;
  mb_tensor *part = NULL, *y = NULL;
  mb_status status = cache_of(&part, p->cache, layer);
  if (status == MB_OK) status = mb_attention_cached(&y, f->value, part, p->first, 0.0);
  mb_tensor_release(part);
  flow_step(f, status, y);
}

// (B, T, C) -> (B, C): what follows the last token is all that is wanted.
static mb_status last_position(mb_tensor **out, mb_tensor *all) {
  const int64_t *shape = mb_tensor_shape(all);
  int64_t B = shape[0], T = shape[1], C = shape[2];
  mb_tensor *last;
  *out = NULL;
  mb_status status = mb_slice(&last, all, 1, T - 1, T, 1);
  if (status == MB_OK) status = mb_reshape(out, last, 2, (int64_t[]){B, C});
  mb_tensor_release(last);
  return status;
}

// Of the value and of the stream.
static void last_positions(flow *f, mb_tensor **stream) {
  if (!flow_is_on(f)) return;
  mb_tensor *value, *of_stream = NULL;
  mb_status status = last_position(&value, f->value);
  if (status == MB_OK) status = last_position(&of_stream, *stream);
  if (status != MB_OK) mb_tensor_release(value), value = NULL;
  flow_step(f, status, value);
  mb_tensor_release(*stream);
  *stream = of_stream;
}

mb_status decoder_next(const decoder *d, mb_tensor **out, mb_model *model, mb_tensor *cache, int64_t first, mb_tensor *inputs) {
  *out = NULL;
  decoder_pass p;
  mb_status status = begin(&p, d, model);
  p.cache = cache, p.first = first;
  if (status == MB_OK) status = check_inputs(d, &p, inputs, "_next");
  if (status == MB_OK) status = check_cache(d, &p, inputs);
  if (status != MB_OK) return status;

  int recording = mb_grad_mode(0);
  mb_tensor *stream = NULL;
  flow f = flow_begin(model, inputs);
  d->trunk(&f, &p, &stream);
  last_positions(&f, &stream);
  d->last_norm(&f, p.config, &stream);
  mb_tensor_release(stream);
  flow_head(&f, d->head(p.config));
  status = flow_end(&f, out);
  mb_grad_mode(recording);
  return status;
}
