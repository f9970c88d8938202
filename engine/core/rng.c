// SPDX-License-Identifier: MIT
//
// rng.c: the state of the generator, three numbers.
#include "core/rng.h"

#include "moonbow.h"

static mbi_rng_key state = {.seed = 1337};

mbi_rng_key mbi_rng_next(void) {
  mbi_rng_key key = state;
  state.stream++;
  return key;
}

void mbi_rng_give_back(mbi_rng_key key) { state = key; }

void mb_rng_seed(uint64_t seed) { state = (mbi_rng_key){.seed = seed}; }

void mb_rng_set_step(uint64_t step) {
  state.step = step;
  state.stream = 0;
}

void mb_rng_get(uint64_t *seed, uint64_t *step, uint64_t *stream) {
  *seed = state.seed;
  *step = state.step;
  *stream = state.stream;
}

void mb_rng_set(uint64_t seed, uint64_t step, uint64_t stream) { state = (mbi_rng_key){seed, step, stream}; }

void mb_rng_words(uint32_t *out, int64_t count, uint64_t seed, uint64_t step, uint64_t stream) {
  for (int64_t i = 0; i < count; i += 4) {
    uint32_t words[4];
    mbi_philox(words, seed, step, stream, (uint64_t)(i / 4));
    for (int64_t j = 0; j < 4 && i + j < count; j++) out[i + j] = words[j];
  }
}
