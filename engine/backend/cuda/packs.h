// SPDX-License-Identifier: MIT
//
// packs.h: 16 bytes at a time. A thread takes N neighbouring elements as one Lanes<T, N>: a pack when they fill accesses of
// 16 bytes, a single element when N is 1; one body, written for any N, serves both.
//
//   launch_packs(f, n, name, pointers...)     elementwise: f.many<N>(first) is called once for every element of n. Elements
//                                             before the first boundary and after the last one are taken one by one.
//   row_parts<N, THREADS>(thread, n, f)       a row: f(Count<N>(), first) for whole parts, f(Count<1>(), first) for the rest.
//                                             The parts depend on n alone, so that sums have the same bits wherever the row
//                                             lies; load and store are told whether it lies on a boundary.
#ifndef MBK_CUDA_PACKS_H
#define MBK_CUDA_PACKS_H
#include <cstring>

#include "backend/cuda/simt.h"

namespace mbk {

constexpr int PACK_BYTES = 16;

template <class T, int N> struct Lanes {
  T at[N];
};
template <int N> struct Count {
  static constexpr int value = N;
};

// How many elements the accesses of a thread cover where arrays of these types are walked together: the smallest type
// fills 16 bytes, the others several times 16.
template <class T, class... More> SIMT_BOTH constexpr int lanes_of() {
  int least = (int)sizeof(T);
  ((least = (int)sizeof(More) < least ? (int)sizeof(More) : least), ...);
  return PACK_BYTES / least;
}

SIMT_BOTH bool on_boundary(const void *p) { return (uintptr_t)p % PACK_BYTES == 0; }

// N elements from p; in accesses of 16 bytes if `wide`, for which p must lie on a boundary.
template <int N, class T> SIMT Lanes<T, N> load(const T *p, bool wide) {
  Lanes<T, N> x;
  if constexpr (N * sizeof(T) % PACK_BYTES == 0) {
    if (wide) {
#ifdef __CUDA_ARCH__
      uint4 bits[N * sizeof(T) / PACK_BYTES];
SIMT_UNROLL
      for (size_t i = 0; i < N * sizeof(T) / PACK_BYTES; i++) bits[i] = reinterpret_cast<const uint4 *>(p)[i];
      memcpy(&x, bits, sizeof x);
#else
      if (!on_boundary(p)) __builtin_trap(); // as the GPU would
      memcpy(&x, p, sizeof x);
#endif
      return x;
    }
  }
SIMT_UNROLL
  for (int k = 0; k < N; k++) x.at[k] = p[k];
  return x;
}

template <int N, class T> SIMT void store(T *p, const Lanes<T, N> &x, bool wide) {
  if constexpr (N * sizeof(T) % PACK_BYTES == 0) {
    if (wide) {
#ifdef __CUDA_ARCH__
      uint4 bits[N * sizeof(T) / PACK_BYTES];
      memcpy(bits, &x, sizeof x);
SIMT_UNROLL
      for (size_t i = 0; i < N * sizeof(T) / PACK_BYTES; i++) __stwb(reinterpret_cast<uint4 *>(p) + i, bits[i]); // never split
#else
      if (!on_boundary(p)) __builtin_trap();
      memcpy(p, &x, sizeof x);
#endif
      return;
    }
  }
SIMT_UNROLL
  for (int k = 0; k < N; k++) p[k] = x.at[k];
}

// ----- elementwise ----------------------------------------------------------------------------------------------

// How `count` elements are cut: `head` single ones up to the boundary, `packs` of LANES, single ones to the end. Part i is
// a pack for i < packs.
template <int LANES> struct Stretch {
  int64_t count, head, packs;
  SIMT_BOTH int64_t parts() const { return packs + (count - packs * LANES); }
  // The first element of part i.
  SIMT_BOTH int64_t first(int64_t i) const {
    if (i < packs) return head + i * LANES;
    int64_t single = i - packs;
    return single < head ? single : single + packs * LANES;
  }
};

// Elements of T from p to the boundary; -1 if no element lies on one.
template <class T> SIMT_BOTH int64_t to_boundary(const T *p) {
  int64_t bytes = (int64_t)(PACK_BYTES - (uintptr_t)p % PACK_BYTES) % PACK_BYTES;
  return bytes % (int64_t)sizeof(T) == 0 ? bytes / (int64_t)sizeof(T) : -1;
}

// The cut of arrays that are walked together; without packs where they do not come to boundaries at the same element. A NULL
// stands for an array that is not there.
template <class T, class... More> SIMT_BOTH Stretch<lanes_of<T, More...>()> make_stretch(int64_t count, const T *p, const More *...more) {
  constexpr int LANES = lanes_of<T, More...>();
  int64_t head = p && sizeof(T) * LANES == PACK_BYTES ? to_boundary(p) : -1;
  ((head = head < 0 && more && sizeof(More) * LANES == PACK_BYTES ? to_boundary(more) : head), ...);
  bool fits = head >= 0 && count - head >= LANES && (!p || on_boundary(p + head));
  ((fits = fits && (!more || on_boundary(more + head))), ...);
  return fits ? Stretch<LANES>{count, head, (count - head) / LANES} : Stretch<LANES>{count, 0, 0};
}

template <class F, int LANES> struct PackKernel {
  static constexpr int THREADS = 256;
  using Shared = Nothing;
  F f;
  Stretch<LANES> stretch;
  SIMT void part(int64_t i) const {
    if (i < stretch.packs) f.template many<LANES>(stretch.first(i), true);
    else f.template many<1>(stretch.first(i), false);
  }
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    int64_t parts = stretch.parts(), step = block.count * THREADS;
#ifdef __CUDACC__
    for (int64_t i = block.index * THREADS + threadIdx.x; i < parts; i += step) part(i);
#else
    for (int thread = 0; thread < THREADS; thread++)
      for (int64_t i = block.index * THREADS + thread; i < parts; i += step) part(i);
#endif
  }
};

// f.many<N>(first, wide) for parts that cover every element below n, in no order; the pointers are those that f loads from
// and stores to, each at `first`. An array may be both.
template <class F, class... P> mb_status launch_packs(const F &f, int64_t n, const char *name, const P *...pointers) {
  auto stretch = make_stretch(n, pointers...);
  return launch(PackKernel<F, lanes_of<P...>()>{f, stretch}, element_blocks(stretch.parts()), name);
}

// ----- rows -----------------------------------------------------------------------------------------------------

// `f` is a lambda of (auto lanes, int64_t first), for which decltype(lanes)::value is N or 1.
template <int N, int THREADS, class F> SIMT void row_parts(int thread, int64_t n, F f) {
  int64_t whole = n / N * N;
  for (int64_t first = (int64_t)thread * N; first < whole; first += (int64_t)THREADS * N) f(Count<N>(), first);
  for (int64_t first = whole + thread; first < n; first += THREADS) f(Count<1>(), first);
}

} // namespace mbk
#endif
