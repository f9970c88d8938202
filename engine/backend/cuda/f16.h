// SPDX-License-Identifier: MIT
//
// f16.h: IEEE 754's binary16 as an element type: one sign bit, five of exponent, ten of fraction; from 2^-24 to 65504. It is
// computed with as bf16.h says of its own: read as float, rounded once to the nearest, of two the even one, when written.
// What is too large becomes infinite.
#ifndef MBK_CUDA_F16_H
#define MBK_CUDA_F16_H
#include "backend/cuda/bf16.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace mbk {

struct f16 {
  uint16_t bits;
  f16() = default;
  MBK_BOTH f16(float x) {
#ifdef __CUDA_ARCH__
    bits = __half_as_ushort(__float2half_rn(x));
#else
    uint32_t all;
    memcpy(&all, &x, sizeof all);
    uint32_t sign = all >> 16 & 0x8000, size = all & 0x7fffffff;
    if (size > 0x7f800000) bits = (uint16_t)(sign | 0x7e00); // NaN
    else if (size >= 0x477ff000) bits = (uint16_t)(sign | 0x7c00); // from 65520 on
    else if (size >= 0x38800000) bits = (uint16_t)(sign | ((size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13)); // from 2^-14 on
    else bits = (uint16_t)(sign | tiny(size));
#endif
  }
  MBK_BOTH explicit f16(double x) : f16((float)x) {}
  MBK_BOTH operator float() const {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(bits));
#else
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    uint32_t all = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | fraction << 13;
    float x;
    memcpy(&x, &all, sizeof x);
    if (exponent > 0) return x;
    x = (float)fraction * 0x1p-24f;
    return sign ? -x : x;
#endif
  }

private:
  // Below 2^-14: how many 2^-24 there are in the float32 of these bits. 2^-24 is the last place of a sum with 1/2, which is rounded.
  static inline uint32_t tiny(uint32_t size) {
    float x;
    memcpy(&x, &size, sizeof x);
    x += 0.5f;
    memcpy(&size, &x, sizeof size);
    return size - 0x3f000000;
  }
};
static_assert(sizeof(f16) == 2, "half of a float");

template <> struct WideOf<f16> {
  using type = float;
};

} // namespace mbk
#endif
