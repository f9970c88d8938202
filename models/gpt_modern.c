// SPDX-License-Identifier: MIT
//
// gpt_modern.c: a GPT with rotary positions, RMS norms and squared ReLU, the network of modded-nanogpt (Jordan, Bernstein,
// Rappazzo et al. 2024) on which Scion (Pethick et al. 2025) and clipped Scion were measured. With x of shape (B, T, C) and
// norm(x) = x / sqrt(mean(x²) + 2^-23), which has no weights:
//
//   x = norm(wte[ids])
//   n_layer times:  x = x + proj(attention(rotary(norm(q)), rotary(norm(k)), v))   q, k, v = Wq y, Wk y, Wv y,  y = norm(x)
//                   x = x + proj(relu(fc(norm(x)))²)
//   logits = norm(x) wteᵀ
//
// Queries and keys are normed head by head (Henry et al. 2020) unless the config says not to. There are no biases. The head is
// the token embedding itself unless the config asks for one of its own. Wq, Wk and Wv are parameters of their own, because
// optimizers of matrices see each as one.
//
// Initial values: N(0, 0.02) for the embedding and the head, which norms make large enough; N(0, 1 / in) for the matrices; those
// that write to the residual stream are 0, so that a block is the identity at first.
#include <math.h>
#include <stdio.h>

#include "decoder.h"

enum { WTE, FIRST_BLOCK };
enum { Q, K, V, ATTENTION_PROJ, FC, FC_PROJ, PER_BLOCK };
static const double EPSILON = 0x1p-23, STD = 0.02;

// ----- construction -----------------------------------------------------------------------------------------

static decoder_sizes sizes_of(const void *config) {
  const mb_gpt_modern_config *c = config;
  return (decoder_sizes){c->vocab_size, c->block_size, c->n_layer, c->n_head, c->n_embd, c->dropout, c->head_chunks};
}

static mb_status check_config(const void *config) {
  const mb_gpt_modern_config *c = config;
  if (c->n_embd / c->n_head % 2 != 0)
    return mb_fail(MB_ERR_ARG, "mb_gpt_modern_new: heads of n_embd / n_head = %lld are odd, rotary positions turn pairs",
                   (long long)(c->n_embd / c->n_head));
  if (!(c->rotary_base > 0 && c->rotary_base < 1e300))
    return mb_fail(MB_ERR_ARG, "mb_gpt_modern_new: rotary_base is %g, a finite number > 0 was expected", c->rotary_base);
  return MB_OK;
}

static mb_status add_block(mb_model *model, const mb_gpt_modern_config *c, int64_t layer) {
  char prefix[32];
  snprintf(prefix, sizeof prefix, "h.%lld.", (long long)layer);
  int64_t C = c->n_embd;
  double std = 1 / sqrt((double)C);
  const struct {
    const char *name;
    int64_t out, in;
    double std;
  } matrices[PER_BLOCK] = {
    [Q] = {"attn.c_q", C, C, std},          [K] = {"attn.c_k", C, C, std},   [V] = {"attn.c_v", C, C, std},
    [ATTENTION_PROJ] = {"attn.c_proj", C, C, 0}, [FC] = {"mlp.c_fc", 4 * C, C, std}, [FC_PROJ] = {"mlp.c_proj", C, 4 * C, 0},
  };
  mb_status status = MB_OK;
  for (int i = 0; i < PER_BLOCK && status == MB_OK; i++)
    status = decoder_add_matrix(model, prefix, matrices[i].name, matrices[i].out, matrices[i].in, MB_ROLE_MATRIX, matrices[i].std);
  return status;
}

static mb_status add_parameters(mb_model *model, const void *config) {
  const mb_gpt_modern_config *c = config;
  mb_status status = decoder_add_matrix(model, "", "wte", c->vocab_size, c->n_embd, MB_ROLE_EMBEDDING, STD);
  for (int64_t layer = 0; layer < c->n_layer && status == MB_OK; layer++) status = add_block(model, c, layer);
  if (status != MB_OK || !c->untied_head) return status;
  return decoder_add_matrix(model, "", "lm_head", c->vocab_size, c->n_embd, MB_ROLE_HEAD, STD);
}

// ----- forward ----------------------------------------------------------------------------------------------

static void norm(flow *f) {
  if (!flow_is_on(f)) return;
  mb_tensor *y = NULL;
  mb_status status = mb_rmsnorm(&y, f->value, NULL, EPSILON);
  flow_step(f, status, y);
}

static void reshape(flow *f, int ndim, const int64_t *shape) {
  if (!flow_is_on(f)) return;
  mb_tensor *y = NULL;
  mb_status status = mb_reshape(&y, f->value, ndim, shape);
  flow_step(f, status, y);
}

static void rotary(flow *f, const decoder_pass *p) {
  if (!flow_is_on(f)) return;
  mb_tensor *y = NULL;
  mb_status status = mb_rotary(&y, f->value, ((const mb_gpt_modern_config *)p->config)->rotary_base, p->first);
  flow_step(f, status, y);
}

// A flow of its own over the same value, which is kept.
static flow branch(const flow *f) {
  flow other = *f;
  mb_tensor_retain(other.value);
  return other;
}

// Queries, keys (normed and turned) or values, (B, T, C) -> (B, T, H, D), from the normed x in f.
static flow projected(const flow *f, const decoder_pass *p, int64_t weight, int turned) {
  flow part = branch(f);
  if (!flow_is_on(f)) return part;
  const int64_t *shape = mb_tensor_shape(f->value);
  int64_t heads[4] = {shape[0], shape[1], p->sizes.n_head, p->sizes.n_embd / p->sizes.n_head};
  flow_linear(&part, weight, -1);
  reshape(&part, 4, heads);
  if (turned && !((const mb_gpt_modern_config *)p->config)->plain_qk) norm(&part);
  if (turned) rotary(&part, p);
  return part;
}

// Three (B, T, H, D) as (B, T, 3 C), queries first.
static mb_status packed(mb_tensor **out, flow part[3]) {
  mb_tensor *all, *parts[3] = {part[0].value, part[1].value, part[2].value};
  mb_status status = mb_concat(&all, parts, 3, 2); // (B, T, 3 H, D)
  if (status != MB_OK) return status;
  const int64_t *shape = mb_tensor_shape(all);
  status = mb_reshape(out, all, 3, (int64_t[]){shape[0], shape[1], shape[2] * shape[3]});
  mb_tensor_release(all);
  return status;
}

// (B, T, C), normed -> (B, T, C), what the heads have read.
static void attend(flow *f, const decoder_pass *p, int64_t layer, int64_t first) {
  flow part[3] = {projected(f, p, first + Q, 1), projected(f, p, first + K, 1), projected(f, p, first + V, 0)};
  mb_status status = f->status;
  for (int i = 0; i < 3 && status == MB_OK; i++) status = part[i].status;
  mb_tensor *y = NULL;
  if (status == MB_OK)
    status = p->cache ? packed(&y, part) : mb_attention(&y, part[0].value, part[1].value, part[2].value, 0.0);
  for (int i = 0; i < 3; i++) mb_tensor_release(part[i].value);
  flow_step(f, status, y);
  if (p->cache) decoder_attend(f, p, layer);
  if (!flow_is_on(f)) return;
  const int64_t *shape = mb_tensor_shape(f->value);
  reshape(f, 3, (int64_t[]){shape[0], shape[1], p->sizes.n_embd});
}

// What the last half block adds to the stream (B, T, C) -> what this block's last half adds
static void block(flow *f, const decoder_pass *p, int64_t layer, mb_tensor **stream) {
  int64_t first = FIRST_BLOCK + layer * PER_BLOCK; // the block's first parameter
  flow_add_rmsnorm(f, stream, EPSILON);
  attend(f, p, layer, first);
  flow_linear(f, first + ATTENTION_PROJ, -1);
  flow_dropout(f, p->dropout);

  flow_add_rmsnorm(f, stream, EPSILON);
  flow_linear(f, first + FC, -1); // (B, T, 4 C)
  flow_apply(f, mb_relu);
  flow_apply(f, mb_square);
  flow_linear(f, first + FC_PROJ, -1);
  flow_dropout(f, p->dropout);
}

static void trunk(flow *f, const decoder_pass *p, mb_tensor **stream) {
  flow_embedding(f, WTE);
  norm(f);
  flow_dropout(f, p->dropout);
  for (int64_t layer = 0; layer < p->sizes.n_layer; layer++) block(f, p, layer, stream);
}

static void last_norm(flow *f, const void *config, mb_tensor **stream) {
  (void)config;
  flow_add_rmsnorm(f, stream, EPSILON);
}

static int64_t head(const void *config) {
  const mb_gpt_modern_config *c = config;
  return c->untied_head ? FIRST_BLOCK + c->n_layer * PER_BLOCK : WTE;
}

// ----- the model --------------------------------------------------------------------------------------------

static const decoder this = {
  .name = "gpt_modern", .prefix = "mb_gpt_modern", .config_bytes = sizeof(mb_gpt_modern_config), .sizes = sizes_of, .check = check_config,
  .add_parameters = add_parameters, .trunk = trunk, .last_norm = last_norm, .head = head,
};

mb_status mb_gpt_modern_new(mb_model **out, const mb_gpt_modern_config *config, mb_dtype dtype, mb_device device, uint64_t seed) {
  return decoder_new(&this, out, config, dtype, device, seed);
}
mb_status mb_gpt_modern_logits(mb_tensor **out, mb_model *model, mb_tensor *inputs) { return decoder_logits(&this, out, model, inputs); }
mb_status mb_gpt_modern_loss(mb_tensor **out, mb_model *model, mb_tensor *inputs, mb_tensor *targets, const mb_cross_entropy_options *options) {
  return decoder_loss(&this, out, model, inputs, targets, options);
}
mb_status mb_gpt_modern_cache(mb_tensor **out, mb_model *model, int64_t batch) { return decoder_cache(&this, out, model, batch); }
mb_status mb_gpt_modern_next(mb_tensor **out, mb_model *model, mb_tensor *cache, int64_t first, mb_tensor *inputs) {
  return decoder_next(&this, out, model, cache, first, inputs);
}
