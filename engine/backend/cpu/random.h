// SPDX-License-Identifier: MIT
//
// random.h: from words of a Philox stream to numbers, for loops that become vector code. Normal numbers are Box and
// Muller's, in single precision for every dtype, so that all see the same sequence.
#ifndef MBK_RANDOM_H
#define MBK_RANDOM_H
#include "backend/cpu/vmath.h"
#include "core/rng.h"

// (0, 1]: log is finite there. 24 bits, exact in single precision.
static inline float mbk_open_unit(uint32_t word) { return ((float)(int32_t)(word >> 8) + 1.0f) * 5.9604644775390625e-8f; }
static inline float mbk_unit(uint32_t word) { return (float)(int32_t)(word >> 8) * 5.9604644775390625e-8f; }

// Two words make the radius and the angle of a point, whose coordinates are two normal numbers.
static inline void mbk_normal_pairs(float *restrict x, float *restrict y, const uint32_t *restrict u, const uint32_t *restrict v, int count) {
  for (int b = 0; b < count; b++) {
    float radius = sqrtf(-2.0f * mbk_logf(mbk_open_unit(u[b]))), s, c;
    mbk_sincos_turnf(mbk_unit(v[b]), &s, &c);
    x[b] = radius * c;
    y[b] = radius * s;
  }
}
#endif
