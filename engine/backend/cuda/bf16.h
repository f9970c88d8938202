// SPDX-License-Identifier: MIT
//
// bf16.h: the upper half of a float32 as an element type: one sign bit, eight of exponent, seven of fraction. Kernels read
// it as float, compute with float and round once, to the nearest, of two the even one, when they write it.
#ifndef MBK_CUDA_BF16_H
#define MBK_CUDA_BF16_H
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#define MBK_BOTH __host__ __device__ __forceinline__
#else
#define MBK_BOTH inline
#endif

namespace mbk {

struct bf16 {
  uint16_t bits;
  bf16() = default;
  MBK_BOTH bf16(float x) {
#ifdef __CUDA_ARCH__
    bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
    uint32_t all;
    memcpy(&all, &x, sizeof all);
    bits = x != x ? (uint16_t)(all >> 16 | 0x40) : (uint16_t)((all + 0x7fff + (all >> 16 & 1)) >> 16);
#endif
  }
  // Rounded by half a random word, see kernels.def, round_stochastic.
  MBK_BOTH static bf16 stochastic(float x, uint32_t half) {
    uint32_t all;
#ifdef __CUDA_ARCH__
    all = __float_as_uint(x);
#else
    memcpy(&all, &x, sizeof all);
#endif
    bf16 y;
    uint32_t special = all >> 16 | (uint32_t)((all & 0x7fffff) != 0) << 6; // infinite, or a NaN that stays one
    y.bits = (uint16_t)((all & 0x7f800000) == 0x7f800000 ? special : (all + half) >> 16);
    return y;
  }
  MBK_BOTH explicit bf16(double x) : bf16((float)x) {}
  MBK_BOTH explicit bf16(int x) : bf16((float)x) {}
  MBK_BOTH operator float() const {
    uint32_t all = (uint32_t)bits << 16;
#ifdef __CUDA_ARCH__
    return __uint_as_float(all);
#else
    float x;
    memcpy(&x, &all, sizeof x);
    return x;
#endif
  }
};
static_assert(sizeof(bf16) == 2, "half of a float");

// What is computed with for elements of type T.
template <class T> struct WideOf {
  using type = T;
};
template <> struct WideOf<bf16> {
  using type = float;
};
template <class T> using Wide = typename WideOf<T>::type;

} // namespace mbk
#endif
