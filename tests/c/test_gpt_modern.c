// SPDX-License-Identifier: MIT
//
// test_gpt_modern.c: the GPT with rotary positions, RMS norms and squared ReLU in float64 against the same network written
// out with plain loops below, its gradients by finite differences, every allocation failing once, generation with a cache,
// initial values, and wrong use.
#include "decoder.h"

enum { VOCAB = 11, BLOCK = 6, LAYERS = 2, HEADS = 2, C = 8, D = C / HEADS, B = 2, T = 5 };

static mb_gpt_modern_config config_with(int plain_qk, int untied) {
  return (mb_gpt_modern_config){.vocab_size = VOCAB, .block_size = BLOCK, .n_layer = LAYERS, .n_head = HEADS, .n_embd = C,
                                .rotary_base = 50, .plain_qk = plain_qk, .untied_head = untied};
}

static mb_tensor *ids(int64_t rows, int64_t columns, int shift) { return ids_below(VOCAB, rows, columns, shift); }

// A model whose residual projections are not at their initial zeros.
static mb_model *shaken_model(const mb_gpt_modern_config *config, mb_dtype dtype) {
  mb_model *model;
  CHECK_OK(mb_gpt_modern_new(&model, config, dtype, MB_CPU, 7));
  shake(model, dtype, 0.3);
  return model;
}

// ----- the network in plain loops, one sequence ----------------------------------------------------------

static void norm(double *y, const double *x, int n) {
  double squares = 0;
  for (int i = 0; i < n; i++) squares += x[i] * x[i] / n;
  for (int i = 0; i < n; i++) y[i] = x[i] / sqrt(squares + 1.1920928955078125e-7);
}

static void linear(double *y, const double *x, const double *w, int in, int out) {
  for (int o = 0; o < out; o++) {
    y[o] = 0;
    for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
  }
}

// A head's numbers at position t as complex ones, x[i] + j x[i + D/2], times exp(j t base^(-2 i / D)).
static void turn(double *x, int t, double base) {
  for (int i = 0; i < D / 2; i++) {
    double angle = t * pow(base, -2.0 * i / D), re = x[i], im = x[i + D / 2];
    x[i] = re * cos(angle) - im * sin(angle);
    x[i + D / 2] = re * sin(angle) + im * cos(angle);
  }
}

static void plain_attention(double mixed[T][C], const mb_gpt_modern_config *c, double q[T][C], double k[T][C], double v[T][C]) {
  for (int head = 0; head < C; head += D)
    for (int t = 0; t < T; t++) {
      if (!c->plain_qk) norm(q[t] + head, q[t] + head, D), norm(k[t] + head, k[t] + head, D);
      turn(q[t] + head, t, c->rotary_base), turn(k[t] + head, t, c->rotary_base);
      double score[T], sum = 0;
      for (int s = 0; s <= t; s++) {
        double dot = 0;
        for (int d = head; d < head + D; d++) dot += q[t][d] * k[s][d];
        sum += score[s] = exp(dot / sqrt(D));
      }
      for (int d = head; d < head + D; d++) {
        mixed[t][d] = 0;
        for (int s = 0; s <= t; s++) mixed[t][d] += score[s] / sum * v[s][d];
      }
    }
}

static void plain_block(mb_model *model, const mb_gpt_modern_config *c, int layer, double x[T][C]) {
  char p[16];
  snprintf(p, sizeof p, "h.%d.", layer);
  double y[C], q[T][C], k[T][C], v[T][C], mixed[T][C], hidden[4 * C], added[C];
  for (int t = 0; t < T; t++) {
    norm(y, x[t], C);
    linear(q[t], y, weight(model, p, "attn.c_q.weight"), C, C);
    linear(k[t], y, weight(model, p, "attn.c_k.weight"), C, C);
    linear(v[t], y, weight(model, p, "attn.c_v.weight"), C, C);
  }
  plain_attention(mixed, c, q, k, v);
  for (int t = 0; t < T; t++) {
    linear(added, mixed[t], weight(model, p, "attn.c_proj.weight"), C, C);
    for (int i = 0; i < C; i++) x[t][i] += added[i];
    norm(y, x[t], C);
    linear(hidden, y, weight(model, p, "mlp.c_fc.weight"), C, 4 * C);
    for (int i = 0; i < 4 * C; i++) hidden[i] = hidden[i] > 0 ? hidden[i] * hidden[i] : 0;
    linear(added, hidden, weight(model, p, "mlp.c_proj.weight"), 4 * C, C);
    for (int i = 0; i < C; i++) x[t][i] += added[i];
  }
}

static void plain_logits(double logits[T][VOCAB], mb_model *model, const mb_gpt_modern_config *c, const int32_t *tokens) {
  double x[T][C], y[C];
  for (int t = 0; t < T; t++) norm(x[t], weight(model, "", "wte.weight") + tokens[t] * C, C);
  for (int layer = 0; layer < LAYERS; layer++) plain_block(model, c, layer, x);
  for (int t = 0; t < T; t++) {
    norm(y, x[t], C);
    linear(logits[t], y, weight(model, "", c->untied_head ? "lm_head.weight" : "wte.weight"), C, VOCAB);
  }
}

static void logits_match_plain_loops(void) {
  for (int variant = 0; variant < 4; variant++) {
    mb_gpt_modern_config c = config_with(variant & 1, variant >> 1);
    mb_model *model = shaken_model(&c, MB_F64);
    mb_tensor *inputs = ids(B, T, 0), *logits;
    int32_t tokens[B * T];
    CHECK_OK(mb_tensor_to_host(tokens, inputs));
    CHECK_OK(mb_gpt_modern_logits(&logits, model, inputs));
    double largest = 0;
    for (int b = 0; b < B; b++) {
      double expected[T][VOCAB];
      plain_logits(expected, model, &c, tokens + b * T);
      for (int i = 0; i < T * VOCAB; i++) {
        CHECK_NEAR(values_of(logits)[b * T * VOCAB + i], expected[i / VOCAB][i % VOCAB], 1e-12);
        largest = fmax(largest, fabs(expected[i / VOCAB][i % VOCAB]));
      }
    }
    CHECK(largest > 0.1);
    mb_tensor_release(inputs), mb_tensor_release(logits);
    mb_model_release(model);
  }
}

// ----- gradients ----------------------------------------------------------------------------------------------

static mb_status step(double *value, mb_model *model, mb_tensor *inputs, mb_tensor *targets) {
  mb_tensor *loss;
  mb_status status = mb_gpt_modern_loss(&loss, model, inputs, targets, NULL);
  if (status == MB_OK) status = mb_tensor_item(value, loss);
  if (status == MB_OK) status = mb_backward(loss, NULL);
  mb_tensor_release(loss);
  return status;
}

static double loss_only(mb_model *model, mb_tensor *inputs, mb_tensor *targets) {
  mb_tensor *loss;
  double value;
  int mode = mb_grad_mode(0);
  CHECK_OK(mb_gpt_modern_loss(&loss, model, inputs, targets, NULL));
  CHECK_OK(mb_tensor_item(&value, loss));
  mb_tensor_release(loss);
  mb_grad_mode(mode);
  return value;
}

static void gradients_match_differences(void) {
  mb_gpt_modern_config c = config_with(0, 0);
  mb_model *model = shaken_model(&c, MB_F64);
  mb_tensor *inputs = ids(B, T, 0), *targets = ids(B, T, 4), *g;
  double value;
  CHECK_OK(step(&value, model, inputs, targets));
  for (int64_t p = 0; p < mb_model_count(model); p++) {
    CHECK_OK(mb_model_gradient(&g, model, p));
    double *w = values_of(mb_model_weight(model, p)), *dw = values_of(g), largest = 0;
    for (int64_t i = 0; i < mb_tensor_numel(g); i++) {
      double kept = w[i], h = 1e-5;
      w[i] = kept + h;
      double above = loss_only(model, inputs, targets);
      w[i] = kept - h;
      double below = loss_only(model, inputs, targets);
      w[i] = kept;
      CHECK_NEAR(dw[i], (above - below) / (2 * h), 3e-8);
      largest = fmax(largest, fabs(dw[i]));
    }
    CHECK(largest > 1e-3);
    mb_tensor_release(g);
  }
  mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model);
}

// A step whose n-th allocation fails says so and leaks nothing.
static void failed_allocations_leak_nothing(void) {
  mb_gpt_modern_config c = config_with(0, 0);
  mb_model *model = shaken_model(&c, MB_F32);
  mb_tensor *inputs = ids(B, T, 0), *targets = ids(B, T, 4);
  double value, expected;
  CHECK_OK(step(&expected, model, inputs, targets));
  mb_memory_stats before, now;
  mb_memory(&before);
  for (int64_t n = 1;; n++) {
    CHECK_OK(mb_model_zero_grad(model));
    mb_debug_fail_allocation(n);
    mb_status status = step(&value, model, inputs, targets);
    mb_debug_fail_allocation(0);
    mb_memory(&now);
    CHECK_EQ(now.live_tensors, before.live_tensors);
    CHECK_EQ(now.bytes_live, before.bytes_live);
    if (status == MB_OK) {
      CHECK(n > 150);
      break;
    }
    CHECK_EQ(status, MB_ERR_NOMEM);
  }
  CHECK_NEAR(value, expected, 0);
  mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model);
}

// ----- behaviour ----------------------------------------------------------------------------------------------

// Logits after every position from a cache that is filled in chunks, against those of the whole sequence.
static void a_cache_changes_nothing(void) {
  mb_gpt_modern_config c = config_with(0, 1);
  mb_model *model = shaken_model(&c, MB_F64);
  mb_tensor *inputs = ids(B, BLOCK, 0), *all, *cache, *part, *next;
  CHECK_OK(mb_gpt_modern_logits(&all, model, inputs));
  const double *expected = values_of(all);
  for (int64_t chunk = 1; chunk <= BLOCK; chunk++) {
    CHECK_OK(mb_gpt_modern_cache(&cache, model, B));
    for (int64_t first = 0; first < BLOCK; first += chunk) {
      int64_t stop = first + chunk < BLOCK ? first + chunk : BLOCK;
      CHECK_OK(mb_slice(&part, inputs, 1, first, stop, 1));
      CHECK_OK(mb_gpt_modern_next(&next, model, cache, first, part));
      for (int64_t b = 0; b < B; b++)
        for (int64_t v = 0; v < VOCAB; v++)
          CHECK_NEAR(values_of(next)[b * VOCAB + v], expected[(b * BLOCK + stop - 1) * VOCAB + v], 1e-13);
      mb_tensor_release(part), mb_tensor_release(next);
    }
    mb_tensor_release(cache);
  }
  mb_tensor_release(inputs), mb_tensor_release(all);
  mb_model_release(model);
}

static double mean_square(mb_model *model, const char *name) {
  int64_t n = mb_tensor_numel(mb_model_weight(model, mb_model_find(model, name)));
  mb_tensor *w = mb_model_weight(model, mb_model_find(model, name));
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += values_of(w)[i] * values_of(w)[i];
  return sum / (double)n;
}

static void initial_values_are_as_said(void) {
  mb_gpt_modern_config c = {.vocab_size = 200, .block_size = 8, .n_layer = 3, .n_head = 4, .n_embd = 64, .rotary_base = 10000, .untied_head = 1};
  mb_model *model;
  CHECK_OK(mb_gpt_modern_new(&model, &c, MB_F64, MB_CPU, 1));
  CHECK_EQ(mb_model_count(model), 1 + 6 * 3 + 1);
  // 4096 and more numbers: mean squares within 10 %.
  CHECK_NEAR(mean_square(model, "wte.weight"), 4e-4, 4e-5);
  CHECK_NEAR(mean_square(model, "lm_head.weight"), 4e-4, 4e-5);
  CHECK_NEAR(mean_square(model, "h.2.attn.c_k.weight"), 1.0 / 64, 0.1 / 64);
  CHECK_NEAR(mean_square(model, "h.0.mlp.c_fc.weight"), 1.0 / 64, 0.1 / 64);
  CHECK_EQ(mean_square(model, "h.1.attn.c_proj.weight"), 0);
  CHECK_EQ(mean_square(model, "h.1.mlp.c_proj.weight"), 0);
  CHECK_EQ(mb_model_role(model, 0), MB_ROLE_EMBEDDING);
  CHECK_EQ(mb_model_role(model, mb_model_count(model) - 1), MB_ROLE_HEAD);
  CHECK_EQ(mb_model_role(model, mb_model_find(model, "h.0.attn.c_v.weight")), MB_ROLE_MATRIX);
  mb_model_release(model);
}

static void wrong_use_is_refused(void) {
  mb_gpt_modern_config c = config_with(0, 0);
  mb_model *model, *other;
  mb_tensor *inputs = ids(B, 2, 0), *out, *cache;
  CHECK_FAILS(MB_ERR_ARG, "config is NULL", mb_gpt_modern_new(&other, NULL, MB_F32, MB_CPU, 1));
  c.n_head = 8;
  CHECK_FAILS(MB_ERR_ARG, "n_embd / n_head = 1 are odd", mb_gpt_modern_new(&other, &c, MB_F32, MB_CPU, 1));
  c.n_head = 3;
  CHECK_FAILS(MB_ERR_ARG, "mb_gpt_modern_new: n_embd 8 is not divisible by n_head 3", mb_gpt_modern_new(&other, &c, MB_F32, MB_CPU, 1));
  c = config_with(0, 0), c.rotary_base = 0;
  CHECK_FAILS(MB_ERR_ARG, "rotary_base is 0", mb_gpt_modern_new(&other, &c, MB_F32, MB_CPU, 1));
  CHECK(other == NULL);
  model = shaken_model(&(mb_gpt_modern_config){VOCAB, BLOCK, 1, HEADS, C, 0.0, 10000, 0, 0, 0}, MB_F32);
  CHECK_FAILS(MB_ERR_ARG, "mb_gpt_modern_cache: batch is 0", mb_gpt_modern_cache(&cache, model, 0));
  CHECK_OK(mb_gpt_modern_cache(&cache, model, B + 1));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_gpt_modern_next: the cache is not one of this model for 2", mb_gpt_modern_next(&out, model, cache, 0, inputs));
  CHECK_FAILS(MB_ERR_ARG, "mb_gpt_modern_logits: inputs is NULL", mb_gpt_modern_logits(&out, model, NULL));
  CHECK_FAILS(MB_ERR_ARG, "gpt_modern", mb_gpt2_logits(&out, model, inputs));
  mb_tensor_release(inputs), mb_tensor_release(cache);
  mb_model_release(model);
}

int main(void) {
  logits_match_plain_loops();
  gradients_match_differences();
  failed_allocations_leak_nothing();
  a_cache_changes_nothing();
  initial_values_are_as_said();
  wrong_use_is_refused();
  return check_end();
}
