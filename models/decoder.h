// SPDX-License-Identifier: MIT
//
// decoder.h: what language models share that read ids (B, T) and give logits (B, T, V): making them, logits, the loss, and
// generation with a cache of keys and values. A model says what it is in a `decoder` and has its public functions in terms of
// it; the names of those are the model's and what they do, "mb_gpt2" and "_logits", in errors too.
#ifndef MODELS_DECODER_H
#define MODELS_DECODER_H
#include "flow.h"

// The numbers that every config has, in whatever struct.
typedef struct decoder_sizes {
  int64_t vocab_size, block_size, n_layer, n_head, n_embd;
  double dropout;
  int head_chunks;
} decoder_sizes;

// A forward pass over ids (B, T) at positions first .. first + T - 1. Training's has no cache, and first = 0.
typedef struct decoder_pass {
  const void *config;
  decoder_sizes sizes;
  double dropout;   // 0 over a cache
  mb_tensor *cache; // (n_layer, 2, B, H, N, D) or NULL
  int64_t first;
} decoder_pass;

typedef struct decoder {
  const char *name;   // of the model: "gpt2"
  const char *prefix; // of its functions: "mb_gpt2"
  size_t config_bytes;
  decoder_sizes (*sizes)(const void *config);
  mb_status (*check)(const void *config);                          // more than sizes; NULL for nothing
  mb_status (*add_parameters)(mb_model *model, const void *config); // the embedding of tokens first
  // ids (B, T) -> what the last half block adds to the residual stream, both (B, T, C); the stream is the caller's, also after a failure
  void (*trunk)(flow *f, const decoder_pass *p, mb_tensor **stream);
  void (*last_norm)(flow *f, const void *config, mb_tensor **stream); // of their sum, which becomes the stream
  int64_t (*head)(const void *config);                             // the parameter (V, C) that turns what is normed into logits
} decoder;

mb_status decoder_new(const decoder *d, mb_model **out, const void *config, mb_dtype dtype, mb_device device, uint64_t seed);
mb_status decoder_logits(const decoder *d, mb_tensor **out, mb_model *model, mb_tensor *inputs);
// A failure leaves the generator as if the dropouts had not been.
mb_status decoder_loss(const decoder *d, mb_tensor **out, mb_model *model, mb_tensor *inputs, mb_tensor *targets,
                       const mb_cross_entropy_options *options);
mb_status decoder_cache(const decoder *d, mb_tensor **out, mb_model *model, int64_t batch);
mb_status decoder_next(const decoder *d, mb_tensor **out, mb_model *model, mb_tensor *cache, int64_t first, mb_tensor *inputs);

// A matrix (out, in) with normal initial values; its name is prefix, name and ".weight".
mb_status decoder_add_matrix(mb_model *model, const char *prefix, const char *name, int64_t out, int64_t in, mb_role role, double std);

// The value, queries, keys and values (B, T, 3 C) of a pass over a cache, becomes what the layer attends to.
void decoder_attend(flow *f, const decoder_pass *p, int64_t layer);
#endif
