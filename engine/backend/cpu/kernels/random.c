// SPDX-License-Identifier: MIT
//
// random.c: numbers from the Philox stream, each a function of its index alone. Normal numbers are Box and
// Muller's: block i of four words gives elements 4 i .. 4 i + 3, in single precision for both dtypes, so
// that both see the same sequence.
#include "backend/cpu/cpu.h"
#include "backend/cpu/vmath.h"
#include "core/rng.h"

enum { BLOCKS = 16, NUMBERS = 4 * BLOCKS }; // Philox blocks made side by side, as vector code

// Words of BLOCKS consecutive blocks, word j of block b at [j][b].
static inline void philox_many(uint32_t words[4][BLOCKS], uint64_t seed, uint64_t step, uint64_t stream, uint64_t first) {
  uint32_t c0[BLOCKS], c1[BLOCKS], c2[BLOCKS], c3[BLOCKS];
  for (int b = 0; b < BLOCKS; b++) {
    uint64_t block = first + (uint64_t)b;
    c0[b] = (uint32_t)block;
    c1[b] = (uint32_t)(block >> 32) ^ (uint32_t)(step >> 32) ^ (uint32_t)(stream >> 32);
    c2[b] = (uint32_t)step;
    c3[b] = (uint32_t)stream;
  }
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    for (int b = 0; b < BLOCKS; b++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * c0[b], p1 = (uint64_t)0xCD9E8D57u * c2[b];
      c0[b] = (uint32_t)(p1 >> 32) ^ c1[b] ^ k0;
      c1[b] = (uint32_t)p1;
      c2[b] = (uint32_t)(p0 >> 32) ^ c3[b] ^ k1;
      c3[b] = (uint32_t)p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int b = 0; b < BLOCKS; b++) words[0][b] = c0[b], words[1][b] = c1[b], words[2][b] = c2[b], words[3][b] = c3[b];
}

// (0, 1]: log is finite there. 24 bits, exact in single precision.
static inline float open_unit(uint32_t word) { return ((float)(int32_t)(word >> 8) + 1.0f) * 5.9604644775390625e-8f; }

static void normals(float out[NUMBERS], uint64_t seed, uint64_t step, uint64_t stream, uint64_t first) {
  uint32_t words[4][BLOCKS];
  float value[4][BLOCKS];
  philox_many(words, seed, step, stream, first);
  for (int pair = 0; pair < 2; pair++)
    for (int b = 0; b < BLOCKS; b++) {
      float radius = sqrtf(-2.0f * mbk_logf(open_unit(words[2 * pair][b]))), s, c;
      mbk_sincos_turnf((float)(int32_t)(words[2 * pair + 1][b] >> 8) * 5.9604644775390625e-8f, &s, &c);
      value[2 * pair][b] = radius * c;
      value[2 * pair + 1][b] = radius * s;
    }
  for (int b = 0; b < BLOCKS; b++)
    for (int j = 0; j < 4; j++) out[4 * b + j] = value[j][b];
}

mb_status MBK(random_normal)(void *out, int64_t count, double mean, double std, uint64_t seed, uint64_t step, uint64_t stream) {
  real *y = out;
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += NUMBERS) {
    float value[NUMBERS];
    normals(value, seed, step, stream, (uint64_t)(start / 4));
    int64_t n = count - start < NUMBERS ? count - start : NUMBERS;
    for (int64_t i = 0; i < n; i++) y[start + i] = (real)(mean + std * (double)value[i]);
  }
  return MB_OK;
}

mb_status MBK(random_uniform)(void *out, int64_t count, double low, double high, uint64_t seed, uint64_t step, uint64_t stream) {
  real *y = out;
  double scale = (high - low) / 16777216.0;
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += NUMBERS) {
    uint32_t words[4][BLOCKS];
    philox_many(words, seed, step, stream, (uint64_t)(start / 4));
    int64_t n = count - start < NUMBERS ? count - start : NUMBERS;
    for (int64_t i = 0; i < n; i++) y[start + i] = (real)(low + scale * (double)(words[i & 3][i >> 2] >> 8));
  }
  return MB_OK;
}

mb_status MBK(dropout)(void *y, const void *x, int64_t count, double p, uint64_t seed, uint64_t step, uint64_t stream) {
  uint32_t threshold = (uint32_t)(p * 4294967296.0); // p < 1
  real scale = (real)(1.0 / (1.0 - p));
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += NUMBERS) {
    uint32_t words[4][BLOCKS];
    philox_many(words, seed, step, stream, (uint64_t)(start / 4));
    int64_t n = count - start < NUMBERS ? count - start : NUMBERS;
    for (int64_t i = 0; i < n; i++)
      ((real *)y)[start + i] = words[i & 3][i >> 2] >= threshold ? ((const real *)x)[start + i] * scale : 0;
  }
  return MB_OK;
}
