// SPDX-License-Identifier: MIT
//
// math.h: the scalar functions of kernels, for float and double, on the GPU and on the host: CUDA's and libm's own, in
// full accuracy.
#ifndef MBK_CUDA_MATH_H
#define MBK_CUDA_MATH_H
#include <cmath>

#include "backend/cuda/bf16.h"
#include "backend/cuda/simt.h"

namespace mbk {

SIMT float exp_of(float x) { return expf(x); }
SIMT double exp_of(double x) { return exp(x); }
SIMT float log_of(float x) { return logf(x); }
SIMT double log_of(double x) { return log(x); }
SIMT float sqrt_of(float x) { return sqrtf(x); }
SIMT double sqrt_of(double x) { return sqrt(x); }
SIMT float abs_of(float x) { return fabsf(x); }
SIMT double abs_of(double x) { return fabs(x); }
SIMT float tanh_of(float x) { return tanhf(x); }
SIMT double tanh_of(double x) { return tanh(x); }
SIMT float pow_of(float x, float y) { return powf(x, y); }
SIMT double pow_of(double x, double y) { return pow(x, y); }
SIMT float erfc_of(float x) { return erfcf(x); }
SIMT double erfc_of(double x) { return erfc(x); }
SIMT float sin_of(float x) { return sinf(x); }
SIMT double sin_of(double x) { return sin(x); }
SIMT float cos_of(float x) { return cosf(x); }
SIMT double cos_of(double x) { return cos(x); }

// 1 / (1 + exp(-x)) from exp(-|x|), which cannot overflow: small results keep their digits.
template <class T> SIMT T sigmoid_of(T x) {
  T e = exp_of(x < 0 ? x : -x);
  return (x < 0 ? e : T(1)) / (T(1) + e);
}
// The normal distribution function.
template <class T> SIMT T normal_cdf_of(T x) { return T(0.5) * erfc_of(x * T(-0.70710678118654752440)); }

} // namespace mbk
#endif
