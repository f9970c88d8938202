// SPDX-License-Identifier: MIT
//
// test_gpt2.c: GPT-2 in float64 against the same network written out with plain loops below, its gradients by
// finite differences, accumulation, memory from step to step, every allocation failing once, generation with a cache,
// and wrong use.
// The comparison with PyTorch is tests/golden/gpt2_step_spec.lua.
#include "decoder.h"

enum { V = 13, BLOCK = 6, LAYERS = 2, HEADS = 2, C = 8, B = 2, T = 5 };
static const mb_gpt2_config config = {.vocab_size = V, .block_size = BLOCK, .n_layer = LAYERS, .n_head = HEADS, .n_embd = C};

static void counts(int64_t *tensors, int64_t *bytes) {
  mb_memory_stats stats;
  mb_memory(&stats);
  *tensors = stats.live_tensors;
  *bytes = stats.bytes_live;
}

static mb_tensor *ids(int64_t rows, int64_t columns, int shift) { return ids_below(V, rows, columns, shift); }

// A model whose biases and norms are not at their initial zeros and ones.
static mb_model *shaken_model(mb_dtype dtype, double dropout) {
  mb_gpt2_config c = config;
  c.dropout = dropout;
  mb_model *model;
  CHECK_OK(mb_gpt2_new(&model, &c, dtype, MB_CPU, 7));
  shake(model, dtype, 0.2);
  return model;
}

// ----- the network in plain loops, one sequence ----------------------------------------------------------

static void norm(double *y, const double *x, const double *w, const double *b) {
  double mean = 0, variance = 0;
  for (int i = 0; i < C; i++) mean += x[i] / C;
  for (int i = 0; i < C; i++) variance += (x[i] - mean) * (x[i] - mean) / C;
  for (int i = 0; i < C; i++) y[i] = (x[i] - mean) / sqrt(variance + 1e-5) * w[i] + b[i];
}

static void linear(double *y, const double *x, const double *w, const double *b, int in, int out) {
  for (int o = 0; o < out; o++) {
    y[o] = b[o];
    for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
  }
}

static double gelu(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x))); }

// Row t of the attention of one head, over keys 0..t.
static void attend(double *out, double qkv[T][3 * C], int t, int head) {
  enum { D = C / HEADS };
  double score[T], sum = 0;
  for (int s = 0; s <= t; s++) {
    double dot = 0;
    for (int d = 0; d < D; d++) dot += qkv[t][head * D + d] * qkv[s][C + head * D + d];
    score[s] = exp(dot / sqrt(D));
    sum += score[s];
  }
  for (int d = 0; d < D; d++) {
    out[head * D + d] = 0;
    for (int s = 0; s <= t; s++) out[head * D + d] += score[s] / sum * qkv[s][2 * C + head * D + d];
  }
}

static void plain_block(mb_model *model, int layer, double x[T][C]) {
  char p[16];
  snprintf(p, sizeof p, "h.%d.", layer);
  double normed[C], qkv[T][3 * C], mixed[C], hidden[4 * C], added[C];
  for (int t = 0; t < T; t++) {
    norm(normed, x[t], weight(model, p, "ln_1.weight"), weight(model, p, "ln_1.bias"));
    linear(qkv[t], normed, weight(model, p, "attn.c_attn.weight"), weight(model, p, "attn.c_attn.bias"), C, 3 * C);
  }
  for (int t = 0; t < T; t++) {
    for (int head = 0; head < HEADS; head++) attend(mixed, qkv, t, head);
    linear(added, mixed, weight(model, p, "attn.c_proj.weight"), weight(model, p, "attn.c_proj.bias"), C, C);
    for (int i = 0; i < C; i++) x[t][i] += added[i];
    norm(normed, x[t], weight(model, p, "ln_2.weight"), weight(model, p, "ln_2.bias"));
    linear(hidden, normed, weight(model, p, "mlp.c_fc.weight"), weight(model, p, "mlp.c_fc.bias"), C, 4 * C);
    for (int i = 0; i < 4 * C; i++) hidden[i] = gelu(hidden[i]);
    linear(added, hidden, weight(model, p, "mlp.c_proj.weight"), weight(model, p, "mlp.c_proj.bias"), 4 * C, C);
    for (int i = 0; i < C; i++) x[t][i] += added[i];
  }
}

static void plain_logits(double logits[T][V], mb_model *model, const int32_t *tokens) {
  double x[T][C], normed[C];
  const double *wte = weight(model, "", "wte.weight"), *wpe = weight(model, "", "wpe.weight");
  for (int t = 0; t < T; t++)
    for (int i = 0; i < C; i++) x[t][i] = wte[tokens[t] * C + i] + wpe[t * C + i];
  for (int layer = 0; layer < LAYERS; layer++) plain_block(model, layer, x);
  for (int t = 0; t < T; t++) {
    norm(normed, x[t], weight(model, "", "ln_f.weight"), weight(model, "", "ln_f.bias"));
    for (int v = 0; v < V; v++) {
      logits[t][v] = 0;
      for (int i = 0; i < C; i++) logits[t][v] += wte[v * C + i] * normed[i];
    }
  }
}

static void logits_match_plain_loops(void) {
  mb_model *model = shaken_model(MB_F64, 0.0);
  mb_tensor *inputs = ids(B, T, 0), *logits, *loss, *targets = ids(B, T, 4);
  CHECK_OK(mb_gpt2_logits(&logits, model, inputs));
  CHECK_EQ(mb_tensor_shape(logits)[0] * 10000 + mb_tensor_shape(logits)[1] * 100 + mb_tensor_shape(logits)[2], B * 10000 + T * 100 + V);
  int32_t tokens[B * T], next[B * T];
  CHECK_OK(mb_tensor_to_host(tokens, inputs));
  CHECK_OK(mb_tensor_to_host(next, targets));
  double mean = 0;
  for (int b = 0; b < B; b++) {
    double expected[T][V];
    plain_logits(expected, model, tokens + b * T);
    for (int t = 0; t < T; t++) {
      double sum = 0;
      for (int v = 0; v < V; v++) {
        CHECK_NEAR(values_of(logits)[(b * T + t) * V + v], expected[t][v], 1e-12);
        sum += exp(expected[t][v]);
      }
      mean += (log(sum) - expected[t][next[b * T + t]]) / (B * T);
    }
  }
  double value;
  CHECK_OK(mb_gpt2_loss(&loss, model, inputs, targets, NULL));
  CHECK_OK(mb_tensor_item(&value, loss));
  CHECK_NEAR(value, mean, 1e-12);
  mb_tensor_release(logits), mb_tensor_release(loss), mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model);
}

// ----- gradients ----------------------------------------------------------------------------------------------

static mb_status step(double *value, mb_model *model, mb_tensor *inputs, mb_tensor *targets, mb_reduction reduction) {
  mb_tensor *loss;
  mb_cross_entropy_options options = {.ignore_index = -1, .reduction = reduction};
  mb_status status = mb_gpt2_loss(&loss, model, inputs, targets, &options);
  if (status == MB_OK) status = mb_tensor_item(value, loss);
  if (status == MB_OK) status = mb_backward(loss, NULL);
  mb_tensor_release(loss);
  return status;
}

static double loss_only(mb_model *model, mb_tensor *inputs, mb_tensor *targets) {
  mb_tensor *loss;
  double value;
  int mode = mb_grad_mode(0);
  CHECK_OK(mb_gpt2_loss(&loss, model, inputs, targets, NULL));
  CHECK_OK(mb_tensor_item(&value, loss));
  mb_tensor_release(loss);
  mb_grad_mode(mode);
  return value;
}

static void gradients_match_differences(void) {
  mb_model *model = shaken_model(MB_F64, 0.0);
  mb_tensor *inputs = ids(B, T, 0), *targets = ids(B, T, 4), *g;
  double value;
  CHECK_OK(step(&value, model, inputs, targets, MB_MEAN));
  for (int64_t p = 0; p < mb_model_count(model); p++) {
    CHECK_OK(mb_model_gradient(&g, model, p));
    double *w = values_of(mb_model_weight(model, p)), *dw = values_of(g);
    for (int64_t i = 0; i < mb_tensor_numel(g); i++) {
      double kept = w[i], h = 1e-5;
      w[i] = kept + h;
      double above = loss_only(model, inputs, targets);
      w[i] = kept - h;
      double below = loss_only(model, inputs, targets);
      w[i] = kept;
      CHECK_NEAR(dw[i], (above - below) / (2 * h), 2e-9);
    }
    mb_tensor_release(g);
  }
  mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model);
}

// One batch of two sequences gives the gradient of two batches of one, halved.
static void accumulation_is_exact(void) {
  mb_model *whole = shaken_model(MB_F64, 0.0), *parts = shaken_model(MB_F64, 0.0);
  mb_tensor *inputs = ids(B, T, 0), *targets = ids(B, T, 4), *x, *y, *a, *b;
  double value;
  CHECK_OK(step(&value, whole, inputs, targets, MB_SUM));
  for (int64_t row = 0; row < B; row++) {
    CHECK_OK(mb_slice(&x, inputs, 0, row, row + 1, 1));
    CHECK_OK(mb_slice(&y, targets, 0, row, row + 1, 1));
    CHECK_OK(step(&value, parts, x, y, MB_SUM));
    mb_tensor_release(x), mb_tensor_release(y);
  }
  CHECK_OK(mb_model_gradients(&a, whole));
  CHECK_OK(mb_model_gradients(&b, parts));
  double largest = 0;
  for (int64_t i = 0; i < mb_tensor_numel(a); i++) {
    largest = fmax(largest, fabs(values_of(a)[i]));
    CHECK_NEAR(values_of(a)[i], values_of(b)[i], 1e-13);
  }
  CHECK(largest > 0.1);
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(whole), mb_model_release(parts);
}

// ----- memory -------------------------------------------------------------------------------------------------

// From the second step on nothing new is asked of the system, what lives between steps is the same, and so are
// the addresses.
static void steps_use_the_same_memory(void) {
  mb_model *model = shaken_model(MB_F32, 0.1);
  mb_tensor *inputs = ids(B, T, 0), *targets = ids(B, T, 4), *logits;
  int64_t tensors[4], bytes[4], held[4];
  void *address[4];
  double value;
  for (int i = 0; i < 4; i++) {
    CHECK_OK(mb_model_zero_grad(model));
    CHECK_OK(step(&value, model, inputs, targets, MB_MEAN));
    mb_memory_stats stats;
    mb_memory(&stats);
    CHECK_OK(mb_gpt2_logits(&logits, model, inputs));
    CHECK_OK(mb_tensor_data(&address[i], logits));
    mb_tensor_release(logits);
    tensors[i] = stats.live_tensors, bytes[i] = stats.bytes_live, held[i] = stats.bytes_live + stats.bytes_cached;
  }
  for (int i = 1; i < 4; i++) {
    CHECK_EQ(tensors[i], tensors[0]);
    CHECK_EQ(bytes[i], bytes[0]);
    CHECK_EQ(held[i], held[0]);
    CHECK(i == 1 || address[i] == address[1]); // the first step found the cache in another order
  }
  mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model);
}

// A step whose n-th allocation fails says so, leaks nothing, and the step after it is as if none had failed.
static void failed_allocations_leak_nothing(void) {
  mb_model *model = shaken_model(MB_F32, 0.1);
  mb_tensor *inputs = ids(B, T, 0), *targets = ids(B, T, 4), *g;
  double value, expected;
  mb_rng_set(1, 2, 0);
  CHECK_OK(step(&expected, model, inputs, targets, MB_MEAN));
  int64_t n_values = mb_tensor_numel(mb_model_weight(model, 2)), tensors, bytes, now, now_bytes;
  CHECK_EQ(n_values, C); // h.0.ln_1.weight, the last to get its gradient but for the embeddings
  float before[C], after[C];
  CHECK_OK(mb_model_gradient(&g, model, 2));
  CHECK_OK(mb_tensor_to_host(before, g));
  mb_tensor_release(g);
  counts(&tensors, &bytes);
  for (int64_t n = 1;; n++) {
    CHECK_OK(mb_model_zero_grad(model));
    mb_rng_set(1, 2, 0);
    mb_debug_fail_allocation(n);
    mb_status status = step(&value, model, inputs, targets, MB_MEAN);
    mb_debug_fail_allocation(0);
    counts(&now, &now_bytes);
    CHECK_EQ(now, tensors);
    CHECK_EQ(now_bytes, bytes);
    if (status == MB_OK) {
      CHECK(n > 150);
      break;
    }
    CHECK_EQ(status, MB_ERR_NOMEM);
    CHECK(strstr(mb_last_error(), "out of memory") != NULL);
    CHECK_OK(mb_model_zero_grad(model));
    mb_rng_set(1, 2, 0);
    CHECK_OK(step(&value, model, inputs, targets, MB_MEAN));
    CHECK_NEAR(value, expected, 0);
    CHECK_OK(mb_model_gradient(&g, model, 2));
    CHECK_OK(mb_tensor_to_host(after, g));
    mb_tensor_release(g);
    CHECK(memcmp(before, after, sizeof before) == 0);
  }
  mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model);
}

// ----- behaviour ----------------------------------------------------------------------------------------------

static void dropout_acts_in_training_only(void) {
  mb_model *model = shaken_model(MB_F64, 0.5);
  mb_tensor *inputs = ids(B, T, 0), *targets = ids(B, T, 4);
  uint64_t seed, at, stream;
  mb_rng_set(4, 1, 0);
  double first = loss_only(model, inputs, targets);
  mb_rng_get(&seed, &at, &stream);
  CHECK_EQ(stream, 1 + 2 * LAYERS); // after the embedding, and two a block
  double second = loss_only(model, inputs, targets);
  CHECK(first != second);
  mb_rng_set(4, 1, 0);
  CHECK_NEAR(loss_only(model, inputs, targets), first, 0);
  mb_model_set_training(model, 0);
  double still = loss_only(model, inputs, targets);
  CHECK_NEAR(loss_only(model, inputs, targets), still, 0);
  mb_model *none = shaken_model(MB_F64, 0.0);
  CHECK_NEAR(loss_only(none, inputs, targets), still, 0);
  mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model), mb_model_release(none);
}

// Logits after every position from a cache that is filled in chunks, against those of the whole sequence.
static void a_cache_changes_nothing(void) {
  mb_model *model = shaken_model(MB_F64, 0.5); // dropout acts in training; generation has none
  mb_tensor *inputs = ids(B, BLOCK, 0), *all, *cache, *part, *next;
  mb_model_set_training(model, 0);
  CHECK_OK(mb_gpt2_logits(&all, model, inputs));
  mb_model_set_training(model, 1);
  const double *expected = values_of(all);
  for (int64_t chunk = 1; chunk <= BLOCK; chunk++) {
    CHECK_OK(mb_gpt2_cache(&cache, model, B));
    for (int64_t first = 0; first < BLOCK; first += chunk) {
      int64_t stop = first + chunk < BLOCK ? first + chunk : BLOCK;
      CHECK_OK(mb_slice(&part, inputs, 1, first, stop, 1));
      CHECK_OK(mb_gpt2_next(&next, model, cache, first, part));
      CHECK(!mb_requires_grad(next));
      CHECK_EQ(mb_tensor_ndim(next) * 10000 + mb_tensor_shape(next)[0] * 100 + mb_tensor_shape(next)[1], 20000 + B * 100 + V);
      for (int64_t b = 0; b < B; b++)
        for (int64_t v = 0; v < V; v++) CHECK_NEAR(values_of(next)[b * V + v], expected[(b * BLOCK + stop - 1) * V + v], 1e-13);
      mb_tensor_release(part), mb_tensor_release(next);
    }
    mb_tensor_release(cache);
  }
  CHECK(mb_grad_mode(1) == 1);
  mb_tensor_release(inputs), mb_tensor_release(all);
  mb_model_release(model);
}

static void a_wrong_cache_is_refused(void) {
  mb_model *model = shaken_model(MB_F32, 0.0);
  mb_tensor *inputs = ids(B, 2, 0), *cache, *next, *other;
  CHECK_FAILS(MB_ERR_ARG, "mb_gpt2_cache: batch is 0", mb_gpt2_cache(&cache, model, 0));
  CHECK(cache == NULL);
  CHECK_OK(mb_gpt2_cache(&cache, model, B));
  CHECK_OK(mb_gpt2_cache(&other, model, B + 1));
  CHECK_FAILS(MB_ERR_ARG, "cache is NULL", mb_gpt2_next(&next, model, NULL, 0, inputs));
  CHECK_FAILS(MB_ERR_ARG, "inputs is NULL", mb_gpt2_next(&next, model, cache, 0, NULL));
  CHECK_FAILS(MB_ERR_SHAPE, "not one of this model for 2 sequences", mb_gpt2_next(&next, model, other, 0, inputs));
  CHECK_FAILS(MB_ERR_SHAPE, "not one of this model", mb_gpt2_next(&next, model, inputs, 0, inputs));
  CHECK_FAILS(MB_ERR_ARG, "2 tokens from position 5 on, the model's block_size is 6", mb_gpt2_next(&next, model, cache, BLOCK - 1, inputs));
  CHECK_FAILS(MB_ERR_ARG, "2 tokens from position -1 on", mb_gpt2_next(&next, model, cache, -1, inputs));
  CHECK(next == NULL);
  CHECK_OK(mb_gpt2_next(&next, model, cache, BLOCK - 2, inputs));
  CHECK(mb_grad_mode(1) == 1);
  mb_tensor_release(inputs), mb_tensor_release(cache), mb_tensor_release(other), mb_tensor_release(next);
  mb_model_release(model);
}

// A head of its own is the last parameter; equal to the embedding it gives the same logits.
static void the_head_may_be_untied(void) {
  mb_gpt2_config c = config;
  c.untied_head = 1;
  mb_model *untied, *tied = shaken_model(MB_F64, 0.0);
  CHECK_OK(mb_gpt2_new(&untied, &c, MB_F64, MB_CPU, 7));
  int64_t head = mb_model_find(untied, "lm_head.weight");
  CHECK_EQ(head, mb_model_count(untied) - 1);
  CHECK_EQ(mb_model_role(untied, head), MB_ROLE_HEAD);
  CHECK_EQ(mb_model_find(tied, "lm_head.weight"), -1);
  for (int64_t i = 0; i < mb_model_count(untied); i++)
    CHECK_OK(mb_copy_(mb_model_weight(untied, i), mb_model_weight(tied, i == head ? 0 : i)));
  mb_tensor *inputs = ids(B, T, 0), *a, *b;
  CHECK_OK(mb_gpt2_logits(&a, tied, inputs));
  CHECK_OK(mb_gpt2_logits(&b, untied, inputs));
  for (int64_t i = 0; i < mb_tensor_numel(a); i++) CHECK_NEAR(values_of(a)[i], values_of(b)[i], 0);
  mb_tensor_release(inputs), mb_tensor_release(a), mb_tensor_release(b);
  mb_model_release(tied), mb_model_release(untied);
}

static double std_of(mb_model *model, const char *name) {
  int64_t n = mb_tensor_numel(mb_model_weight(model, mb_model_find(model, name)));
  const double *w = weight(model, "", name);
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += w[i] * w[i];
  return sqrt(sum / (double)n);
}

static void initial_values_are_gpt2s(void) {
  mb_gpt2_config c = {.vocab_size = 300, .block_size = 64, .n_layer = 8, .n_head = 4, .n_embd = 64};
  mb_model *model;
  CHECK_OK(mb_gpt2_new(&model, &c, MB_F64, MB_CPU, 1));
  CHECK_EQ(mb_model_count(model), 2 + 12 * 8 + 2);
  // 4096 and more numbers: the estimate is within 5 %.
  CHECK_NEAR(std_of(model, "wte.weight"), 0.02, 0.001);
  CHECK_NEAR(std_of(model, "wpe.weight"), 0.02, 0.001);
  CHECK_NEAR(std_of(model, "h.7.attn.c_attn.weight"), 0.02, 0.001);
  CHECK_NEAR(std_of(model, "h.0.mlp.c_fc.weight"), 0.02, 0.001);
  CHECK_NEAR(std_of(model, "h.0.attn.c_proj.weight"), 0.005, 0.00025);
  CHECK_NEAR(std_of(model, "h.7.mlp.c_proj.weight"), 0.005, 0.00025);
  CHECK_NEAR(std_of(model, "h.3.ln_2.weight"), 1, 0);
  CHECK_NEAR(std_of(model, "h.3.attn.c_attn.bias"), 0, 0);
  CHECK_NEAR(std_of(model, "ln_f.weight") + std_of(model, "ln_f.bias"), 1, 0);
  CHECK_EQ(mb_model_role(model, 0), MB_ROLE_EMBEDDING);
  CHECK_EQ(mb_model_role(model, 1), MB_ROLE_EMBEDDING);
  CHECK_EQ(mb_model_role(model, mb_model_find(model, "h.0.mlp.c_fc.weight")), MB_ROLE_MATRIX);
  // Each kind of matrix is one group of n_layer.
  static const char *const kinds[] = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"};
  mb_tensor *flat, *group;
  CHECK_OK(mb_model_values(&flat, model));
  for (int k = 0; k < 4; k++) {
    char name[64];
    snprintf(name, sizeof name, "h.5.%s.weight", kinds[k]);
    CHECK_OK(mb_model_group_view(&group, model, flat, mb_model_group_of(model, mb_model_find(model, name))));
    CHECK_EQ(mb_tensor_shape(group)[0], 8);
    mb_tensor_release(group);
  }
  mb_tensor_release(flat);
  mb_model_release(model);
}

static void wrong_use_is_refused(void) {
  mb_model *model;
  mb_tensor *inputs, *targets = ids(B, T, 4), *y;
  mb_gpt2_config c = config;
  CHECK_FAILS(MB_ERR_ARG, "config is NULL", mb_gpt2_new(&model, NULL, MB_F32, MB_CPU, 1));
  c.n_head = 3;
  CHECK_FAILS(MB_ERR_ARG, "n_embd 8 is not divisible by n_head 3", mb_gpt2_new(&model, &c, MB_F32, MB_CPU, 1));
  CHECK(model == NULL);
  c = config, c.n_layer = 0;
  CHECK_FAILS(MB_ERR_ARG, "n_layer is 0", mb_gpt2_new(&model, &c, MB_F32, MB_CPU, 1));
  c = config, c.dropout = 1.0;
  CHECK_FAILS(MB_ERR_ARG, "dropout is 1", mb_gpt2_new(&model, &c, MB_F32, MB_CPU, 1));
  c = config, c.vocab_size = INT32_MAX, c.n_embd = 1 << 26;
  CHECK_FAILS(MB_ERR_NOMEM, "out of memory", mb_gpt2_new(&model, &c, MB_F32, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_DTYPE, "u8", mb_gpt2_new(&model, &config, MB_U8, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_DEVICE, "cuda", mb_gpt2_new(&model, &config, MB_F32, MB_CUDA, 1));

  CHECK_OK(mb_gpt2_new(&model, &config, MB_F32, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_ARG, "inputs is NULL", mb_gpt2_logits(&y, model, NULL));
  inputs = ids(1, BLOCK + 1, 0);
  CHECK_FAILS(MB_ERR_SHAPE, "7 tokens, the model's block_size is 6", mb_gpt2_logits(&y, model, inputs));
  CHECK(y == NULL);
  mb_tensor_release(inputs);
  CHECK_OK(mb_full(&inputs, MB_I32, 1, (int64_t[]){T}, MB_CPU, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "1 dimensions", mb_gpt2_logits(&y, model, inputs));
  mb_tensor_release(inputs);
  CHECK_OK(mb_full(&inputs, MB_I32, 2, (int64_t[]){B, T}, MB_CPU, V));
  CHECK_FAILS(MB_ERR_ARG, "13", mb_gpt2_logits(&y, model, inputs));
  mb_tensor_release(inputs);
  CHECK_OK(mb_full(&inputs, MB_F32, 2, (int64_t[]){B, T}, MB_CPU, 0));
  CHECK_FAILS(MB_ERR_DTYPE, "f32", mb_gpt2_logits(&y, model, inputs));
  mb_tensor_release(inputs);
  inputs = ids(B, T - 1, 0);
  CHECK_FAILS(MB_ERR_SHAPE, "(2, 5)", mb_gpt2_loss(&y, model, inputs, targets, NULL));
  CHECK(y == NULL);
  mb_tensor_release(inputs), mb_tensor_release(targets);
  mb_model_release(model);
}

int main(void) {
  int64_t tensors, bytes, tensors_after, bytes_after;
  counts(&tensors, &bytes);
  logits_match_plain_loops();
  gradients_match_differences();
  accumulation_is_exact();
  steps_use_the_same_memory();
  failed_allocations_leak_nothing();
  dropout_acts_in_training_only();
  a_cache_changes_nothing();
  a_wrong_cache_is_refused();
  the_head_may_be_untied();
  initial_values_are_gpt2s();
  wrong_use_is_refused();
  counts(&tensors_after, &bytes_after);
  CHECK_EQ(tensors_after, tensors);
  CHECK_EQ(bytes_after, bytes);
  return check_end();
}
