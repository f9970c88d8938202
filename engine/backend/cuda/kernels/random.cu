// SPDX-License-Identifier: MIT
//
// random.cu: numbers from Philox streams: a thread makes the numbers of 16 bytes, from one block of the stream for float32,
// two for bf16; for float64 four numbers. The words are those of the CPU; normal numbers agree with its own to rounding.
#include "backend/cuda/normal.h"
#include "backend/cuda/packs.h"

namespace mbk {
namespace {

// Elements that a thread makes: whole blocks of the stream, and whole packs.
template <class T> constexpr int EACH = lanes_of<T>() < 4 ? 4 : lanes_of<T>();

template <int N> SIMT void words_of(uint32_t (&word)[N], const Stream &stream, int64_t i) {
  const Stream s = stream.now();
SIMT_UNROLL
  for (int b = 0; b < N / 4; b++) {
    uint32_t four[4];
    mbi_philox(four, s.seed, s.step, s.stream, (uint64_t)(i * (N / 4) + b));
SIMT_UNROLL
    for (int j = 0; j < 4; j++) word[4 * b + j] = four[j];
  }
}

// Elements first to first + N, those that there are.
template <int N, class T> SIMT Lanes<T, N> load_some(const T *p, int64_t first, int64_t count, bool wide) {
  if (first + N <= count) return load<N>(p + first, wide);
  Lanes<T, N> x{};
SIMT_UNROLL
  for (int k = 0; k < N; k++)
    if (first + k < count) x.at[k] = p[first + k];
  return x;
}
template <int N, class T> SIMT void store_some(T *p, const Lanes<T, N> &x, int64_t first, int64_t count, bool wide) {
  if (first + N <= count) return store(p + first, x, wide);
SIMT_UNROLL
  for (int k = 0; k < N; k++)
    if (first + k < count) p[first + k] = x.at[k];
}

template <class T> struct Normal {
  T *out;
  int64_t count;
  Wide<T> mean, std;
  Stream s;
  SIMT void operator()(int64_t i) const {
    constexpr int N = EACH<T>;
    uint32_t word[N];
    Lanes<T, N> x;
    words_of(word, s, i);
SIMT_UNROLL
    for (int k = 0; k < N; k += 2) {
      float a, b;
      normal_pair(&a, &b, word[k], word[k + 1]);
      x.at[k] = (T)(mean + std * (Wide<T>)a), x.at[k + 1] = (T)(mean + std * (Wide<T>)b);
    }
    store_some(out, x, i * N, count, on_boundary(out));
  }
};

template <class T> struct Uniform {
  T *out;
  int64_t count;
  Wide<T> low, width;
  Stream s;
  SIMT void operator()(int64_t i) const {
    constexpr int N = EACH<T>;
    uint32_t word[N];
    Lanes<T, N> x;
    words_of(word, s, i);
SIMT_UNROLL
    for (int k = 0; k < N; k++) x.at[k] = (T)(low + width * (Wide<T>)unit(word[k]));
    store_some(out, x, i * N, count, on_boundary(out));
  }
};

template <class T> struct Dropout {
  T *y;
  const T *x;
  int64_t count;
  uint32_t threshold;
  Wide<T> scale;
  Stream s;
  SIMT void operator()(int64_t i) const {
    constexpr int N = EACH<T>;
    bool wide = on_boundary(x) && on_boundary(y);
    Lanes<T, N> v = load_some<N>(x, i * N, count, wide);
    uint32_t word[N];
    words_of(word, s, i);
SIMT_UNROLL
    for (int k = 0; k < N; k++) v.at[k] = word[k] >= threshold ? (T)((Wide<T>)v.at[k] * scale) : (T)0.0f;
    store_some(y, v, i * N, count, wide);
  }
};

// A thread rounds eight elements, by one block of the stream.
template <class T> struct Round {
  static constexpr int N = 8;
  bf16 *y;
  const T *x;
  int64_t count;
  Stream s;
  SIMT void operator()(int64_t i) const {
    Lanes<T, N> v = load_some<N>(x, i * N, count, on_boundary(x));
    Lanes<bf16, N> out;
    uint32_t word[N / 2];
    words_of(word, s, i);
SIMT_UNROLL
    for (int k = 0; k < N; k++) out.at[k] = bf16::stochastic((float)v.at[k], word[k / 2] >> 16 * (k % 2) & 0xffff);
    store_some(y, out, i * N, count, on_boundary(y));
  }
};

} // namespace

template <class T>
mb_status Kernels<T>::random_normal(void *out, int64_t count, double mean, double std, uint64_t seed, uint64_t step, uint64_t stream) {
  Stream s;
  MB_TRY(stream_of(&s, seed, step, stream));
  return launch_elements(Normal<T>{(T *)out, count, (Wide<T>)mean, (Wide<T>)std, s}, ceil_div(count, EACH<T>), "random_normal");
}

template <class T>
mb_status Kernels<T>::random_uniform(void *out, int64_t count, double low, double high, uint64_t seed, uint64_t step, uint64_t stream) {
  Stream s;
  MB_TRY(stream_of(&s, seed, step, stream));
  return launch_elements(Uniform<T>{(T *)out, count, (Wide<T>)low, (Wide<T>)(high - low), s}, ceil_div(count, EACH<T>), "random_uniform");
}

template <class T>
mb_status Kernels<T>::dropout(void *y, const void *x, int64_t count, double p, uint64_t seed, uint64_t step, uint64_t stream) {
  Stream s;
  MB_TRY(stream_of(&s, seed, step, stream));
  return launch_elements(Dropout<T>{(T *)y, (const T *)x, count, (uint32_t)(p * 4294967296.0), (Wide<T>)(1.0 / (1.0 - p)), s},
                         ceil_div(count, EACH<T>), "dropout");
}

template <class T>
mb_status Kernels<T>::round_stochastic(void *out, const void *x, int64_t count, uint64_t seed, uint64_t step, uint64_t stream) {
  Stream s;
  MB_TRY(stream_of(&s, seed, step, stream));
  return launch_elements(Round<T>{(bf16 *)out, (const T *)x, count, s}, ceil_div(count, Round<T>::N), "round_stochastic");
}

MBK_SLOT(random_normal);
MBK_SLOT(random_uniform);
MBK_SLOT(dropout);
MBK_SLOT(round_stochastic);

} // namespace mbk
