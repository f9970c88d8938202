// SPDX-License-Identifier: MIT
//
// decoder.h: what language models share that read ids (B, T) and give logits (B, T, V): the sizes of a config and their
// checks, the loss, and generation with a cache of keys and values. `who` is the public function that speaks in errors.
#ifndef MODELS_DECODER_H
#define MODELS_DECODER_H
#include "flow.h"

// The numbers that every config has, in whatever struct.
typedef struct decoder_sizes {
  int64_t vocab_size, block_size, n_layer, n_head, n_embd;
  double dropout;
} decoder_sizes;

mb_status decoder_check_sizes(const decoder_sizes *s, const char *who);

// ids (B, T) at positions first .. first + T - 1, below block_size.
mb_status decoder_check_inputs(const decoder_sizes *s, const mb_tensor *inputs, int64_t first, const char *who);

// A matrix (out, in) with normal initial values; its name is prefix, name and ".weight".
mb_status decoder_add_matrix(mb_model *model, const char *prefix, const char *name, int64_t out, int64_t in, mb_role role, double std);

// Cross entropy of what `logits` computes. A failure leaves the generator as if the dropouts had not been.
typedef mb_status decoder_logits(mb_tensor **out, mb_model *model, mb_tensor *inputs);
mb_status decoder_loss(mb_tensor **out, decoder_logits *logits, mb_model *model, mb_tensor *inputs, mb_tensor *targets,
                       const mb_cross_entropy_options *options);

// ----- generation: a cache (n_layer, 2, batch, n_head, block_size, D) ----------------------------------------

mb_status decoder_cache(mb_tensor **out, mb_model *model, const decoder_sizes *s, int64_t batch, const char *who);
mb_status decoder_check_cache(const decoder_sizes *s, const mb_tensor *cache, const mb_tensor *inputs, const char *who);

// The value, queries, keys and values (B, T, 3 C) at positions from `first` on, becomes what the layer attends to.
void decoder_attend(flow *f, mb_tensor *cache, int64_t layer, int64_t first);

// (B, T, C) -> (B, C): what follows the last token is all that is wanted.
void decoder_last_position(flow *f);
#endif
