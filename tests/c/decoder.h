// SPDX-License-Identifier: MIT
//
// decoder.h: what the C tests of language models share.
#ifndef MB_TEST_DECODER_H
#define MB_TEST_DECODER_H
#include "check.h"

static inline double *values_of(mb_tensor *t) {
  void *data;
  CHECK_OK(mb_tensor_data(&data, t));
  return data;
}

// The float64 values of the parameter `prefix``name`.
static inline const double *weight(mb_model *model, const char *prefix, const char *name) {
  char full[64];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  int64_t i = mb_model_find(model, full);
  CHECK(i >= 0);
  return values_of(mb_model_weight(model, i));
}

// Ids (rows, columns) below `vocab_size`, at most 64 of them.
static inline mb_tensor *ids_below(int64_t vocab_size, int64_t rows, int64_t columns, int shift) {
  int32_t data[64];
  for (int64_t i = 0; i < rows * columns; i++) data[i] = (int32_t)((i * 7 + i * i * 3 + shift) % vocab_size);
  mb_tensor *t;
  CHECK_OK(mb_from_host(&t, MB_I32, 2, (int64_t[]){rows, columns}, MB_CPU, data));
  return t;
}

// Adds noise of a standard deviation to every parameter: none is at its initial zero or one then.
static inline void shake(mb_model *model, mb_dtype dtype, double std) {
  mb_rng_seed(21);
  for (int64_t i = 0; i < mb_model_count(model); i++) {
    mb_tensor *noise, *w = mb_model_weight(model, i);
    CHECK_OK(mb_randn(&noise, dtype, mb_tensor_ndim(w), mb_tensor_shape(w), MB_CPU));
    CHECK_OK(mb_add_(w, noise, std));
    mb_tensor_release(noise);
  }
}
#endif
