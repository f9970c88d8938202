// SPDX-License-Identifier: MIT
//
// vmath.h: exp, log, tanh and their kin as straight-line code, so that loops over them become vector code
// without fast-math. Single precision: Cephes' polynomials (Moshier) for exp, log, tanh, sin and cos; error
// below 2 units in the last place (sigmoid 3), denormals included, NaN and infinities as libm. Double
// precision calls libm: it is the reference, not the fast path. Tests: tests/c/test_vmath.c.
#ifndef MBK_VMATH_H
#define MBK_VMATH_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float mbk_float_of(int32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
static inline int32_t mbk_bits_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2. Adding 1.5 2^23 rounds, and leaves n in the low
// bits of `shifted`. Returns exp(r).
static inline float mbk_exp_reduced(float x, float *shifted) {
  *shifted = x * 1.44269504088896341f + 12582912.0f;
  float n = *shifted - 12582912.0f, r = x - n * 0.693359375f;
  r -= n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * r * r + r + 1.0f;
}

// 2^n is applied in two halves, so that results reach from denormals to the largest float.
static inline float mbk_expf(float x) {
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  float shifted, p = mbk_exp_reduced(x, &shifted);
  int32_t k = mbk_bits_of(shifted) - 0x4B400000, half = k >> 1;
  return p * mbk_float_of((int32_t)((uint32_t)(half + 127) << 23)) * mbk_float_of((int32_t)((uint32_t)(k - half + 127) << 23));
}

// The same for x <= 88 only, as softmax needs it: results below 1.7e-38 are 0, and 2^n is applied at once. A
// third faster.
static inline float mbk_expf_soft(float x) {
  float shifted, p = mbk_exp_reduced(x, &shifted);
  float y = p * mbk_float_of((int32_t)(((uint32_t)mbk_bits_of(shifted) << 23) + 0x3F800000u));
  return x < -87.0f ? 0.0f : y;
}

// log(x) = e ln 2 + log(m), m in [sqrt(1/2), sqrt 2). Denormals are scaled up first.
static inline float mbk_logf(float x) {
  float scaled = x < 1.17549435e-38f ? x * 8388608.0f : x;
  float bias = x < 1.17549435e-38f ? -23.0f : 0.0f;
  int32_t bits = mbk_bits_of(scaled);
  int32_t e = (int32_t)((uint32_t)bits - 0x3F3504F3u) >> 23;
  float m = mbk_float_of((int32_t)((uint32_t)bits - ((uint32_t)e << 23))) - 1.0f, z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float n = (float)e + bias, y = p * m * z + n * -2.12194440e-4f - 0.5f * z;
  float result = m + y + n * 0.693359375f;
  result = x == 0.0f ? -INFINITY : result;
  result = x < 0.0f ? NAN : result;
  return x > 3.40282347e38f || x != x ? x : result;
}

static inline float mbk_tanhf(float x) {
  float a = fabsf(x), z = a * a;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float small = p * z * a + a;
  float large = 1.0f - 2.0f / (mbk_expf(2.0f * a) + 1.0f);
  return copysignf(a < 0.625f ? small : large, x);
}

// 1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow: small results keep their digits.
static inline float mbk_sigmoidf(float x) {
  float e = mbk_expf(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
static inline double mbk_sigmoid64(double x) {
  double e = exp(x < 0 ? x : -x);
  return (x < 0 ? e : 1) / (1 + e);
}

// The normal distribution function: for a >= 1, cdf(-a) = exp(-a^2 / 2) t Q(t), t = 1 / (1 + 0.265 a), and
// cdf(a) = 1 - cdf(-a); the form is Abramowitz and Stegun's 26.2.17. For |x| < 1, cdf(x) = 1/2 + x P(x^2).
// P and Q are minimax fits with errors of 7e-9 and, relative, 1.8e-8. In the lower tail the rounding of a^2
// counts: up to a^2 / 2 units in the last place.
static inline float mbk_normal_cdff(float x) {
  float a = x < 0.0f ? -x : x, t = 1.0f / (1.0f + 0.265f * a);
  float q = 3.058633358e-2f;
  q = q * t - 1.431203935e-1f;
  q = q * t + 2.155883654e-1f;
  q = q * t - 1.138837494e-1f;
  q = q * t + 1.362842179e-1f;
  q = q * t + 6.100740147e-2f;
  q = q * t + 1.025270135e-1f;
  q = q * t + 1.052706317e-1f;
  q = q * t + 1.057401752e-1f;
  float tail = mbk_expf(-0.5f * x * x) * (t * q);
  float z = x * x, p = 9.246838121e-5f;
  p = p * z - 1.165350761e-3f;
  p = p * z + 9.964166816e-3f;
  p = p * z - 6.648873000e-2f;
  p = p * z + 3.989421990e-1f;
  float outer = x < 0.0f ? tail : 1.0f - tail;
  return a < 1.0f ? 0.5f + x * p : outer;
}
static inline double mbk_normal_cdf64(double x) { return 0.5 * erfc(x * -0.70710678118654752440); }

// sin and cos of 2 pi u for u in [0, 1): reduced to |t| <= pi/4 around the nearest quarter turn.
static inline void mbk_sincos_turnf(float u, float *sine, float *cosine) {
  float quarter = u * 4.0f + 12582912.0f;
  int32_t q = mbk_bits_of(quarter) & 3;
  float t = (u - (quarter - 12582912.0f) * 0.25f) * 6.28318530717958648f, z = t * t;
  float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * t + t;
  float c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  float x = q & 1 ? c : s, y = q & 1 ? s : c;
  *sine = q & 2 ? -x : x;
  *cosine = (q + 1) & 2 ? -y : y;
}

#if MBK_REAL == 64
#define mbk_exp exp
#define mbk_exp_soft exp
#define mbk_log log
#define mbk_tanh tanh
#define mbk_sigmoid mbk_sigmoid64
#define mbk_normal_cdf mbk_normal_cdf64
#define mbk_pow pow
#define mbk_sqrt sqrt
#define mbk_fabs fabs
#else
#define mbk_exp mbk_expf
#define mbk_exp_soft mbk_expf_soft
#define mbk_log mbk_logf
#define mbk_tanh mbk_tanhf
#define mbk_sigmoid mbk_sigmoidf
#define mbk_normal_cdf mbk_normal_cdff
#define mbk_pow powf
#define mbk_sqrt sqrtf
#define mbk_fabs fabsf
#endif
#endif
