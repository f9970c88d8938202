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

#include "decoder.h"

// Parameters in their order; a block's count from its first.
enum { WTE, WPE, FIRST_BLOCK };
enum { LN_1 = 0, QKV = 2, ATTENTION_PROJ = 4, LN_2 = 6, FC = 8, FC_PROJ = 10, PER_BLOCK = 12 };
static const double EPSILON = 1e-5, STD = 0.02;

// ----- construction -----------------------------------------------------------------------------------------

static decoder_sizes sizes_of(const void *config) {
  const mb_gpt2_config *c = config;
  return (decoder_sizes){c->vocab_size, c->block_size, c->n_layer, c->n_head, c->n_embd, c->dropout, c->head_chunks};
}

static mb_status add_vector(mb_model *model, const char *prefix, const char *name, const char *kind, int64_t size, mb_init init) {
  char full[96];
  snprintf(full, sizeof full, "%s%s.%s", prefix, name, kind);
  return mb_model_add(model, full, 1, &size, MB_ROLE_VECTOR, init, 0.0);
}

// A matrix (out, in) and its bias.
static mb_status add_linear(mb_model *model, const char *prefix, const char *name, int64_t out, int64_t in, double std) {
  mb_status status = decoder_add_matrix(model, prefix, name, out, in, MB_ROLE_MATRIX, std);
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

static mb_status add_parameters(mb_model *model, const void *config) {
  const mb_gpt2_config *c = config;
  mb_status status = decoder_add_matrix(model, "", "wte", c->vocab_size, c->n_embd, MB_ROLE_EMBEDDING, STD);
  if (status == MB_OK) status = decoder_add_matrix(model, "", "wpe", c->block_size, c->n_embd, MB_ROLE_EMBEDDING, STD);
  for (int64_t layer = 0; layer < c->n_layer && status == MB_OK; layer++) status = add_block(model, c, layer);
  if (status == MB_OK) status = add_norm(model, "", "ln_f", c->n_embd);
  if (status != MB_OK || !c->untied_head) return status;
  return decoder_add_matrix(model, "", "lm_head", c->vocab_size, c->n_embd, MB_ROLE_HEAD, STD);
}

// ----- forward ----------------------------------------------------------------------------------------------

// wpe[first .. first + T - 1] (T, C), to be added to every sequence of the batch.
static mb_tensor *positions(flow *f, int64_t first, int64_t T) {
  mb_tensor *rows = NULL, *weight = flow_weight(f, WPE);
  if (!flow_is_on(f)) return rows;
  if (T == mb_tensor_shape(weight)[0]) return weight;
  mb_status status = mb_slice(&rows, weight, 0, first, first + T, 1);
  mb_tensor_release(weight);
  if (status != MB_OK) flow_step(f, status, NULL);
  return rows;
}

static void attend(flow *f, const decoder_pass *p, int64_t layer) {
  if (p->cache) decoder_attend(f, p, layer);
  else flow_attention(f, p->sizes.n_head);
}

// What the last half block adds to the stream (B, T, C) -> what this block's last half adds
static void block(flow *f, const decoder_pass *p, int64_t layer, mb_tensor **stream) {
  int64_t first = FIRST_BLOCK + layer * PER_BLOCK; // the block's first parameter
  flow_add_layernorm(f, stream, first + LN_1, first + LN_1 + 1, EPSILON);
  flow_linear(f, first + QKV, first + QKV + 1); // (B, T, 3 C)
  attend(f, p, layer);
  flow_linear(f, first + ATTENTION_PROJ, first + ATTENTION_PROJ + 1);
  flow_dropout(f, p->dropout);

  flow_add_layernorm(f, stream, first + LN_2, first + LN_2 + 1, EPSILON);
  int keep = !((const mb_gpt2_config *)p->config)->recompute;
  flow_gelu_mlp(f, first + FC, first + FC + 1, first + FC_PROJ, first + FC_PROJ + 1, keep); // (B, T, 4 C) inside
  flow_dropout(f, p->dropout);
}

static void trunk(flow *f, const decoder_pass *p, mb_tensor **stream) {
  if (!flow_is_on(f)) return;
  int64_t T = mb_tensor_shape(f->value)[1];
  flow_embedding(f, WTE);
  flow_add(f, positions(f, p->first, T));
  flow_dropout(f, p->dropout);
  for (int64_t layer = 0; layer < p->sizes.n_layer; layer++) block(f, p, layer, stream);
}

static int64_t ln_f(const mb_gpt2_config *c) { return FIRST_BLOCK + c->n_layer * PER_BLOCK; }

static void last_norm(flow *f, const void *config, mb_tensor **stream) {
  flow_add_layernorm(f, stream, ln_f(config), ln_f(config) + 1, EPSILON);
}

static int64_t head(const void *config) {
  const mb_gpt2_config *c = config;
  return c->untied_head ? ln_f(c) + 2 : WTE;
}

// ----- the model --------------------------------------------------------------------------------------------

static const decoder this = {
  .name = "gpt2", .prefix = "mb_gpt2", .config_bytes = sizeof(mb_gpt2_config), .sizes = sizes_of,
  .add_parameters = add_parameters, .trunk = trunk, .last_norm = last_norm, .head = head,
};

mb_status mb_gpt2_new(mb_model **out, const mb_gpt2_config *config, mb_dtype dtype, mb_device device, uint64_t seed) {
  return decoder_new(&this, out, config, dtype, device, seed);
}
mb_status mb_gpt2_logits(mb_tensor **out, mb_model *model, mb_tensor *inputs) { return decoder_logits(&this, out, model, inputs); }
mb_status mb_gpt2_loss(mb_tensor **out, mb_model *model, mb_tensor *inputs, mb_tensor *targets, const mb_cross_entropy_options *options) {
  return decoder_loss(&this, out, model, inputs, targets, options);
}
mb_status mb_gpt2_cache(mb_tensor **out, mb_model *model, int64_t batch) { return decoder_cache(&this, out, model, batch); }
mb_status mb_gpt2_next(mb_tensor **out, mb_model *model, mb_tensor *cache, int64_t first, mb_tensor *inputs) {
  return decoder_next(&this, out, model, cache, first, inputs);
}
