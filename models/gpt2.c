// SPDX-License-Identifier: MIT
//
// gpt2.c: GPT-2 (Radford, Wu, Child, Luan, Amodei, Sutskever, "Language models are unsupervised multitask
// learners", 2019) as Hugging Face's GPT2LMHeadModel computes it. With x of shape (B, T, C):
//
//   x = wte[ids] + wpe[0 .. T-1]
//   n_layer times:  x = x + proj(attention(qkv(norm(x))))
//                   x = x + proj(gelu(fc(norm(x))))
//   logits = norm(x) wteᵀ
//
// Norms are layer norms with epsilon 1e-5, GELU is its tanh form, and the head is the token embedding itself
// unless the config asks for one of its own. Weights are [out, in]; files of Hugging Face hold them transposed.
//
// Initial values: N(0, 0.02), biases 0, norms the identity. The two projections of a block that write to the
// residual stream get 0.02 / sqrt(2 n_layer), so that its variance does not grow with depth.
//
// Dropout acts after the embedding and on what each half of a block adds. Attention probabilities are
// not dropped: they are never in memory as a whole, and dropout on the attention's output regularises instead.
//
// Generation keeps keys and values in a cache, so that a token costs its own row of every product and one query over the
// positions before it.
//
// What the tape holds for a block, in units of B T C numbers: qkv 3, attention's output 1, the two norms'
// inputs and outputs 4, gelu's input and output 8; with `recompute` its input alone, 4.
#include <math.h>
#include <stdio.h>

#include "flow.h"

// Parameters in their order; a block's count from its first.
enum { WTE, WPE, FIRST_BLOCK };
enum { LN_1 = 0, QKV = 2, ATTENTION_PROJ = 4, LN_2 = 6, FC = 8, FC_PROJ = 10, PER_BLOCK = 12 };
enum { MOST_LAYERS = 1024 };
static const double EPSILON = 1e-5, STD = 0.02;

// ----- construction -----------------------------------------------------------------------------------------

static mb_status check_config(const mb_gpt2_config *c) {
  const struct {
    const char *name;
    int64_t value, most;
  } sizes[] = {
    {"vocab_size", c->vocab_size, INT32_MAX}, {"block_size", c->block_size, INT32_MAX}, {"n_layer", c->n_layer, MOST_LAYERS},
    {"n_head", c->n_head, INT32_MAX},         {"n_embd", c->n_embd, INT32_MAX / 4},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    if (sizes[i].value < 1 || sizes[i].value > sizes[i].most)
      return mb_fail(MB_ERR_ARG, "mb_gpt2_new: %s is %lld, a number from 1 to %lld was expected", sizes[i].name,
                     (long long)sizes[i].value, (long long)sizes[i].most);
  if (c->n_embd % c->n_head != 0)
    return mb_fail(MB_ERR_ARG, "mb_gpt2_new: n_embd %lld is not divisible by n_head %lld", (long long)c->n_embd, (long long)c->n_head);
  if (!(c->dropout >= 0 && c->dropout < 1))
    return mb_fail(MB_ERR_ARG, "mb_gpt2_new: dropout is %g, a number in [0, 1) was expected", c->dropout);
  return MB_OK;
}

static mb_status add_matrix(mb_model *model, const char *prefix, const char *name, int64_t out, int64_t in, mb_role role, double std) {
  char full[96];
  int64_t shape[2] = {out, in};
  snprintf(full, sizeof full, "%s%s.weight", prefix, name);
  return mb_model_add(model, full, 2, shape, role, MB_INIT_NORMAL, std);
}

static mb_status add_vector(mb_model *model, const char *prefix, const char *name, const char *kind, int64_t size, mb_init init) {
  char full[96];
  snprintf(full, sizeof full, "%s%s.%s", prefix, name, kind);
  return mb_model_add(model, full, 1, &size, MB_ROLE_VECTOR, init, 0.0);
}

// A matrix (out, in) and its bias.
static mb_status add_linear(mb_model *model, const char *prefix, const char *name, int64_t out, int64_t in, double std) {
  mb_status status = add_matrix(model, prefix, name, out, in, MB_ROLE_MATRIX, std);
  return status == MB_OK ? add_vector(model, prefix, name, "bias", out, MB_INIT_ZEROS) : status;
}

static mb_status add_norm(mb_model *model, const char *prefix, const char *name, int64_t size) {
  mb_status status = add_vector(model, prefix, name, "weight", size, MB_INIT_ONES);
  return status == MB_OK ? add_vector(model, prefix, name, "bias", size, MB_INIT_ZEROS) : status;
}

static mb_status add_block(mb_model *model, const mb_gpt2_config *c, int64_t layer) {
  char prefix[32];
  snprintf(prefix, sizeof prefix, "h.%lld.", (long long)layer);
  int64_t C = c->n_embd;
  double residual_std = STD / sqrt(2.0 * (double)c->n_layer);
  mb_status status = add_norm(model, prefix, "ln_1", C);
  if (status == MB_OK) status = add_linear(model, prefix, "attn.c_attn", 3 * C, C, STD);
  if (status == MB_OK) status = add_linear(model, prefix, "attn.c_proj", C, C, residual_std);
  if (status == MB_OK) status = add_norm(model, prefix, "ln_2", C);
  if (status == MB_OK) status = add_linear(model, prefix, "mlp.c_fc", 4 * C, C, STD);
  if (status == MB_OK) status = add_linear(model, prefix, "mlp.c_proj", C, 4 * C, residual_std);
  return status;
}

static mb_status add_parameters(mb_model *model, const mb_gpt2_config *c) {
  mb_status status = add_matrix(model, "", "wte", c->vocab_size, c->n_embd, MB_ROLE_EMBEDDING, STD);
  if (status == MB_OK) status = add_matrix(model, "", "wpe", c->block_size, c->n_embd, MB_ROLE_EMBEDDING, STD);
  for (int64_t layer = 0; layer < c->n_layer && status == MB_OK; layer++) status = add_block(model, c, layer);
  if (status == MB_OK) status = add_norm(model, "", "ln_f", c->n_embd);
  if (status != MB_OK || !c->untied_head) return status;
  return add_matrix(model, "", "lm_head", c->vocab_size, c->n_embd, MB_ROLE_HEAD, STD);
}

mb_status mb_gpt2_new(mb_model **out, const mb_gpt2_config *config, mb_dtype dtype, mb_device device, uint64_t seed) {
  *out = NULL;
  if (!config) return mb_fail(MB_ERR_ARG, "mb_gpt2_new: config is NULL");
  mb_model *model;
  mb_status status = check_config(config);
  if (status == MB_OK) status = mb_model_new(&model, "gpt2");
  if (status != MB_OK) return status;
  status = add_parameters(model, config);
  if (status == MB_OK) status = mb_model_build(model, dtype, device, seed);
  if (status == MB_OK) status = mb_model_set_config(model, config, sizeof *config);
  if (status == MB_OK) *out = model;
  else mb_model_release(model);
  return status;
}

// ----- forward ----------------------------------------------------------------------------------------------

// ids (B, T) at positions first .. first + T - 1, below block_size.
static mb_status check_inputs(const mb_gpt2_config *c, const mb_tensor *inputs, int64_t first, const char *who) {
  if (!inputs) return mb_fail(MB_ERR_ARG, "%s: inputs is NULL, ids (B, T) were expected", who);
  if (mb_tensor_ndim(inputs) != 2)
    return mb_fail(MB_ERR_SHAPE, "%s: inputs has %d dimensions, ids (B, T) were expected", who, mb_tensor_ndim(inputs));
  int64_t T = mb_tensor_shape(inputs)[1];
  if (first == 0 && T > c->block_size)
    return mb_fail(MB_ERR_SHAPE, "%s: inputs have %lld tokens, the model's block_size is %lld", who, (long long)T, (long long)c->block_size);
  if (first < 0 || first > c->block_size - T)
    return mb_fail(MB_ERR_ARG, "%s: inputs have %lld tokens from position %lld on, the model's block_size is %lld", who, (long long)T,
                   (long long)first, (long long)c->block_size);
  return MB_OK;
}

// What a forward pass goes by: training's, or one over a cache.
typedef struct pass {
  const mb_gpt2_config *config;
  double dropout;
  mb_tensor *cache; // (n_layer, 2, B, H, N, D) or NULL
  int64_t first;    // position of the first token
} pass;

// wpe[first .. first + T - 1] (T, C), to be added to every sequence of the batch.
static mb_tensor *positions(flow *f, int64_t first, int64_t T) {
  mb_tensor *rows = NULL, *weight = flow_weight(f, WPE);
  if (!flow_is_on(f)) return rows;
  mb_status status = mb_slice(&rows, weight, 0, first, first + T, 1);
  mb_tensor_release(weight);
  if (status != MB_OK) flow_step(f, status, NULL);
  return rows;
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

static void attend(flow *f, const pass *p, int64_t layer) {
  if (!p->cache) {
    flow_attention(f, p->config->n_head);
    return;
  }
  if (!flow_is_on(f)) return;
  mb_tensor *cache = NULL, *y = NULL;
  mb_status status = cache_of(&cache, p->cache, layer);
  if (status == MB_OK) status = mb_attention_cached(&y, f->value, cache, p->first, 0.0);
  mb_tensor_release(cache);
  flow_step(f, status, y);
}

// (B, T, C) -> (B, T, C)
static void block(flow *f, const pass *p, int64_t layer) {
  int64_t first = FIRST_BLOCK + layer * PER_BLOCK; // the block's first parameter
  mb_tensor *residual = flow_keep(f);
  flow_layernorm(f, first + LN_1, first + LN_1 + 1, EPSILON);
  flow_linear(f, first + QKV, first + QKV + 1); // (B, T, 3 C)
  attend(f, p, layer);
  flow_linear(f, first + ATTENTION_PROJ, first + ATTENTION_PROJ + 1);
  flow_dropout(f, p->dropout);
  flow_add(f, residual);

  residual = flow_keep(f);
  flow_layernorm(f, first + LN_2, first + LN_2 + 1, EPSILON);
  flow_linear(f, first + FC, first + FC + 1); // (B, T, 4 C)
  if (p->config->recompute) {
    flow_gelu_linear(f, first + FC_PROJ, first + FC_PROJ + 1);
  } else {
    flow_apply(f, mb_gelu_tanh);
    flow_linear(f, first + FC_PROJ, first + FC_PROJ + 1);
  }
  flow_dropout(f, p->dropout);
  flow_add(f, residual);
}

// ids (B, T) -> (B, T, C), before the last norm.
static void trunk(flow *f, const pass *p, int64_t T) {
  flow_embedding(f, WTE);
  flow_add(f, positions(f, p->first, T));
  flow_dropout(f, p->dropout);
  for (int64_t layer = 0; layer < p->config->n_layer; layer++) block(f, p, layer);
}

// (..., C) -> (..., V)
static void head(flow *f, const mb_gpt2_config *c) {
  int64_t ln_f = FIRST_BLOCK + c->n_layer * PER_BLOCK;
  flow_layernorm(f, ln_f, ln_f + 1, EPSILON);
  flow_linear(f, c->untied_head ? ln_f + 2 : WTE, -1);
}

mb_status mb_gpt2_logits(mb_tensor **out, mb_model *model, mb_tensor *inputs) {
  *out = NULL;
  const void *config;
  mb_status status = mb_model_config(&config, model, "gpt2");
  const mb_gpt2_config *c = config;
  if (status == MB_OK) status = check_inputs(c, inputs, 0, "mb_gpt2_logits");
  if (status != MB_OK) return status;

  flow f = flow_begin(model, inputs);
  trunk(&f, &(pass){.config = c, .dropout = c->dropout}, mb_tensor_shape(inputs)[1]);
  head(&f, c);
  return flow_end(&f, out);
}

mb_status mb_gpt2_loss(mb_tensor **out, mb_model *model, mb_tensor *inputs, mb_tensor *targets, const mb_cross_entropy_options *options) {
  mb_tensor *logits;
  uint64_t seed, step, stream;
  *out = NULL;
  mb_rng_get(&seed, &step, &stream);
  mb_status status = mb_gpt2_logits(&logits, model, inputs);
  if (status != MB_OK) return status;
  status = mb_cross_entropy(out, logits, targets, options);
  if (status != MB_OK) mb_rng_set(seed, step, stream); // as if the dropouts had not been
  mb_tensor_release(logits); // the tape's alone from here: backward writes its gradient over it
  return status;
}

// ----- generation -------------------------------------------------------------------------------------------

mb_status mb_gpt2_cache(mb_tensor **out, mb_model *model, int64_t batch) {
  *out = NULL;
  const void *config;
  mb_status status = mb_model_config(&config, model, "gpt2");
  const mb_gpt2_config *c = config;
  if (status != MB_OK) return status;
  if (batch < 1) return mb_fail(MB_ERR_ARG, "mb_gpt2_cache: batch is %lld, at least 1 was expected", (long long)batch);
  int64_t shape[6] = {c->n_layer, 2, batch, c->n_head, c->block_size, c->n_embd / c->n_head};
  return mb_full(out, mb_model_compute(model), 6, shape, mb_tensor_device(mb_model_weight(model, WTE)), 0.0);
}

static mb_status check_cache(const mb_gpt2_config *c, const mb_tensor *cache, const mb_tensor *inputs) {
  if (!cache) return mb_fail(MB_ERR_ARG, "mb_gpt2_next: cache is NULL, one of mb_gpt2_cache was expected");
  int64_t batch = mb_tensor_shape(inputs)[0];
  int64_t expected[6] = {c->n_layer, 2, batch, c->n_head, c->block_size, c->n_embd / c->n_head};
  int fits = mb_tensor_ndim(cache) == 6;
  for (int i = 0; fits && i < 6; i++) fits = mb_tensor_shape(cache)[i] == expected[i];
  if (!fits) return mb_fail(MB_ERR_SHAPE, "mb_gpt2_next: the cache is not one of this model for %lld sequences", (long long)batch);
  return MB_OK;
}

// (B, T, C) -> (B, C): what follows the last token is all that is wanted.
static void last_position(flow *f) {
  if (!flow_is_on(f)) return;
  const int64_t *shape = mb_tensor_shape(f->value);
  int64_t B = shape[0], T = shape[1], C = shape[2];
  mb_tensor *last, *rows = NULL;
  mb_status status = mb_slice(&last, f->value, 1, T - 1, T, 1);
  if (status == MB_OK) status = mb_reshape(&rows, last, 2, (int64_t[]){B, C});
  mb_tensor_release(last);
  flow_step(f, status, rows);
}

mb_status mb_gpt2_next(mb_tensor **out, mb_model *model, mb_tensor *cache, int64_t first, mb_tensor *inputs) {
  *out = NULL;
  const void *config;
  mb_status status = mb_model_config(&config, model, "gpt2");
  const mb_gpt2_config *c = config;
  if (status == MB_OK) status = check_inputs(c, inputs, first, "mb_gpt2_next");
  if (status == MB_OK) status = check_cache(c, cache, inputs);
  if (status != MB_OK) return status;

  int recording = mb_grad_mode(0);
  flow f = flow_begin(model, inputs);
  trunk(&f, &(pass){.config = c, .cache = cache, .first = first}, mb_tensor_shape(inputs)[1]);
  last_position(&f);
  head(&f, c);
  status = flow_end(&f, out);
  mb_grad_mode(recording);
  return status;
}
