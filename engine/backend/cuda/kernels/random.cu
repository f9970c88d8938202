// SPDX-License-Identifier: MIT
//
// random.cu: numbers from Philox streams: a thread makes the four numbers of one block of the stream. The words are those
// of the CPU; normal numbers agree with its own to rounding.
#include "backend/cuda/math.h"
#include "core/rng.h"

namespace mbk {
namespace {

// (0, 1]: log is finite there. 24 bits, exact in single precision.
SIMT float open_unit(uint32_t word) { return ((float)(int32_t)(word >> 8) + 1.0f) * 5.9604644775390625e-8f; }
SIMT float unit(uint32_t word) { return (float)(int32_t)(word >> 8) * 5.9604644775390625e-8f; }

struct Stream {
  uint64_t seed, step, stream;
};

// Two words make the radius and the angle of a point, whose coordinates are two normal numbers.
SIMT void normal_pair(float *x, float *y, uint32_t u, uint32_t v) {
  float radius = sqrtf(-2.0f * logf(open_unit(u))), turn = 6.28318530717958648f * unit(v);
  *x = radius * cosf(turn);
  *y = radius * sinf(turn);
}

template <class T> struct Normal {
  T *out;
  int64_t count;
  Wide<T> mean, std;
  Stream s;
  SIMT void operator()(int64_t b) const {
    uint32_t word[4];
    float value[4];
    mbi_philox(word, s.seed, s.step, s.stream, (uint64_t)b);
    normal_pair(&value[0], &value[1], word[0], word[1]);
    normal_pair(&value[2], &value[3], word[2], word[3]);
    for (int j = 0; j < 4; j++)
      if (4 * b + j < count) out[4 * b + j] = (T)(mean + std * (Wide<T>)value[j]);
  }
};

template <class T> struct Uniform {
  T *out;
  int64_t count;
  Wide<T> low, width;
  Stream s;
  SIMT void operator()(int64_t b) const {
    uint32_t word[4];
    mbi_philox(word, s.seed, s.step, s.stream, (uint64_t)b);
    for (int j = 0; j < 4; j++)
      if (4 * b + j < count) out[4 * b + j] = (T)(low + width * (Wide<T>)unit(word[j]));
  }
};

template <class T> struct Dropout {
  T *y;
  const T *x;
  int64_t count;
  uint32_t threshold;
  Wide<T> scale;
  Stream s;
  SIMT void operator()(int64_t b) const {
    uint32_t word[4];
    mbi_philox(word, s.seed, s.step, s.stream, (uint64_t)b);
    for (int j = 0; j < 4; j++)
      if (4 * b + j < count) y[4 * b + j] = word[j] >= threshold ? (T)((Wide<T>)x[4 * b + j] * scale) : (T)0.0f;
  }
};

} // namespace

template <class T>
mb_status Kernels<T>::random_normal(void *out, int64_t count, double mean, double std, uint64_t seed, uint64_t step, uint64_t stream) {
  return launch_elements(Normal<T>{(T *)out, count, (Wide<T>)mean, (Wide<T>)std, {seed, step, stream}}, ceil_div(count, 4), "random_normal");
}

template <class T>
mb_status Kernels<T>::random_uniform(void *out, int64_t count, double low, double high, uint64_t seed, uint64_t step, uint64_t stream) {
  return launch_elements(Uniform<T>{(T *)out, count, (Wide<T>)low, (Wide<T>)(high - low), {seed, step, stream}}, ceil_div(count, 4),
                         "random_uniform");
}

template <class T>
mb_status Kernels<T>::dropout(void *y, const void *x, int64_t count, double p, uint64_t seed, uint64_t step, uint64_t stream) {
  return launch_elements(Dropout<T>{(T *)y, (const T *)x, count, (uint32_t)(p * 4294967296.0), (Wide<T>)(1.0 / (1.0 - p)), {seed, step, stream}},
                         ceil_div(count, 4), "dropout");
}

MBK_SLOT(random_normal);
MBK_SLOT(random_uniform);
MBK_SLOT(dropout);

} // namespace mbk
