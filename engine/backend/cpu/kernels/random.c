// SPDX-License-Identifier: MIT
//
// random.c: numbers from the Philox stream, each a function of its index alone. Normal numbers are Box and
// Muller's: block i of four words gives elements 4 i .. 4 i + 3, in single precision for both dtypes, so
// that both see the same sequence.
#include "backend/cpu/cpu.h"
#include "backend/cpu/random.h"

enum { BLOCKS = 64, NUMBERS = 4 * BLOCKS }; // Philox blocks made side by side, as vector code

// Words of BLOCKS consecutive blocks, word j of block b at [j][b]. Each lane keeps its block in registers
// through all rounds; the rounds must be unrolled for that (they are, in core/rng.h).
static inline void philox_many(uint32_t words[restrict 4][BLOCKS], uint64_t seed, uint64_t step, uint64_t stream, uint64_t first) {
  for (uint32_t b = 0; b < BLOCKS; b++) {
    uint32_t block[4];
    mbi_philox(block, seed, step, stream, first + b);
    words[0][b] = block[0];
    words[1][b] = block[1];
    words[2][b] = block[2];
    words[3][b] = block[3];
  }
}

// y[4 b + j] = mean + std value[j][b]
static inline void interleave(real *restrict y, float value[restrict 4][BLOCKS], real mean, real std) {
  for (int b = 0; b < BLOCKS; b++) {
    y[4 * b] = mean + std * (real)value[0][b];
    y[4 * b + 1] = mean + std * (real)value[1][b];
    y[4 * b + 2] = mean + std * (real)value[2][b];
    y[4 * b + 3] = mean + std * (real)value[3][b];
  }
}

mb_status MBK(random_normal)(void *out, int64_t count, double mean, double std, uint64_t seed, uint64_t step, uint64_t stream) {
  real *y = out;
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += NUMBERS) {
    uint32_t words[4][BLOCKS];
    float value[4][BLOCKS];
    philox_many(words, seed, step, stream, (uint64_t)(start / 4));
    mbk_normal_pairs(value[0], value[1], words[0], words[1], BLOCKS);
    mbk_normal_pairs(value[2], value[3], words[2], words[3], BLOCKS);
    if (count - start >= NUMBERS) {
      interleave(y + start, value, (real)mean, (real)std);
    } else {
      real last[NUMBERS];
      interleave(last, value, (real)mean, (real)std);
      memcpy(y + start, last, (size_t)(count - start) * sizeof *last);
    }
  }
  return MB_OK;
}

mb_status MBK(random_uniform)(void *out, int64_t count, double low, double high, uint64_t seed, uint64_t step, uint64_t stream) {
  real *y = out;
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += NUMBERS) {
    uint32_t words[4][BLOCKS];
    float value[4][BLOCKS];
    philox_many(words, seed, step, stream, (uint64_t)(start / 4));
    for (int j = 0; j < 4; j++)
      for (int b = 0; b < BLOCKS; b++) value[j][b] = mbk_unit(words[j][b]);
    if (count - start >= NUMBERS) {
      interleave(y + start, value, (real)low, (real)(high - low));
    } else {
      real last[NUMBERS];
      interleave(last, value, (real)low, (real)(high - low));
      memcpy(y + start, last, (size_t)(count - start) * sizeof *last);
    }
  }
  return MB_OK;
}

// y = x scale where the element's word reaches the threshold, else 0. One loop over words in order is vector
// code throughout; a loop over blocks of four is not.
static void drop(real *restrict y, const real *restrict x, const uint32_t *restrict word, int64_t n, uint32_t threshold, real scale) {
  for (int64_t i = 0; i < n; i++) y[i] = word[i] >= threshold ? x[i] * scale : 0;
}

mb_status MBK(dropout)(void *y, const void *x, int64_t count, double p, uint64_t seed, uint64_t step, uint64_t stream) {
  uint32_t threshold = (uint32_t)(p * 4294967296.0); // p < 1
  real scale = (real)(1.0 / (1.0 - p));
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += NUMBERS) {
    uint32_t words[4][BLOCKS], ordered[NUMBERS];
    philox_many(words, seed, step, stream, (uint64_t)(start / 4));
    for (int b = 0; b < BLOCKS; b++)
      for (int j = 0; j < 4; j++) ordered[4 * b + j] = words[j][b];
    int64_t n = count - start < NUMBERS ? count - start : NUMBERS;
    drop((real *)y + start, (const real *)x + start, ordered, n, threshold, scale);
  }
  return MB_OK;
}

// A float32 with a half word added to the half that bf16 cuts off; the nearest bf16 where x is not finite.
static inline uint16_t rounded(float x, uint32_t half) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  uint32_t special = bits >> 16 | (uint32_t)((bits & 0x7fffff) != 0) << 6; // infinite, or a NaN that stays one
  return (uint16_t)((bits & 0x7f800000) == 0x7f800000 ? special : (bits + half) >> 16);
}

mb_status MBK(round_stochastic)(void *out, const void *x, int64_t count, uint64_t seed, uint64_t step, uint64_t stream) {
  uint16_t *y = out;
  const real *from = x;
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += 2 * NUMBERS) {
    uint32_t words[4][BLOCKS], ordered[NUMBERS];
    philox_many(words, seed, step, stream, (uint64_t)(start / 8));
    for (int b = 0; b < BLOCKS; b++)
      for (int j = 0; j < 4; j++) ordered[4 * b + j] = words[j][b];
    int64_t n = count - start < 2 * NUMBERS ? count - start : 2 * NUMBERS;
    for (int64_t i = 0; i < n; i++) y[start + i] = rounded((float)from[start + i], ordered[i / 2] >> 16 * (i % 2) & 0xffff);
  }
  return MB_OK;
}
