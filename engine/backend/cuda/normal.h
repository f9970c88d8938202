// SPDX-License-Identifier: MIT
//
// normal.h: numbers from Philox streams, as kernels make them: four from each block of a stream.
#ifndef MBK_CUDA_NORMAL_H
#define MBK_CUDA_NORMAL_H
#include "backend/cuda/math.h"
#include "core/rng.h"

namespace mbk {

// (0, 1]: log is finite there. 24 bits, exact in single precision.
SIMT float open_unit(uint32_t word) { return ((float)(int32_t)(word >> 8) + 1.0f) * 5.9604644775390625e-8f; }
SIMT float unit(uint32_t word) { return (float)(int32_t)(word >> 8) * 5.9604644775390625e-8f; }

// In a graph the numbers are found out when it is run: `base` is where seed, step and the first stream of the run are then, and
// `stream` counts from there.
struct Stream {
  uint64_t seed, step, stream;
  const uint64_t *base;
  SIMT Stream now() const { return base ? Stream{base[0], base[1], base[2] + stream, nullptr} : *this; }
};
// What a kernel is given (capture.cu): in a capture the generator's own streams alone.
mb_status stream_of(Stream *out, uint64_t seed, uint64_t step, uint64_t stream);

// Two words make the radius and the angle of a point, whose coordinates are two normal numbers.
SIMT void normal_pair(float *x, float *y, uint32_t u, uint32_t v) {
  float radius = sqrtf(-2.0f * logf(open_unit(u)));
#ifdef __CUDACC__
  float sine, cosine;
  sincospif(2.0f * unit(v), &sine, &cosine);
#else
  float turn = 6.28318530717958648f * unit(v), sine = sinf(turn), cosine = cosf(turn);
#endif
  *x = radius * cosine;
  *y = radius * sine;
}

// Elements 4 b to 4 b + 3 of out (count): mean + std times normal numbers.
template <class T> SIMT void put_normal(T *out, int64_t count, int64_t b, Wide<T> mean, Wide<T> std, const Stream &s) {
  uint32_t word[4];
  float value[4];
  const Stream now = s.now();
  mbi_philox(word, now.seed, now.step, now.stream, (uint64_t)b);
  normal_pair(&value[0], &value[1], word[0], word[1]);
  normal_pair(&value[2], &value[3], word[2], word[3]);
SIMT_UNROLL
  for (int j = 0; j < 4; j++)
    if (4 * b + j < count) out[4 * b + j] = (T)(mean + std * (Wide<T>)value[j]);
}

} // namespace mbk
#endif
