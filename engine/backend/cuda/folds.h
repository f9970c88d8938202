// SPDX-License-Identifier: MIT
//
// folds.h: lines of sums of columns, one line for each share of many rows, and their sum, made in an order that depends on the
// shape alone: every 32nd line, from the first 32 on, then those 32 sums.
//
//   LastFold     in the kernel that makes the lines: the last block of every 32nd share adds up their lines, and the last of
//                these the rest. So nothing is launched for it, and at most 32 lines are left to the block all others are done before.
//   fold_lines   a launch of its own, after any kernel that makes lines
#ifndef MBK_CUDA_FOLDS_H
#define MBK_CUDA_FOLDS_H
#include "backend/cuda/math.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/together.h"

namespace mbk {

constexpr int FOLD_GROUPS = 32;

// *out = or += sum, rounded to what out holds first.
template <class O> SIMT void put(O *out, int accumulate, double sum) {
  *out = accumulate ? (O)((Wide<O>)*out + (Wide<O>)(O)sum) : (O)sum;
}

// Where the sums of `all` columns go, times alpha: the first `columns` to `out`, the others to `second`, either of which may be NULL.
template <class O> struct Gradients {
  O *out, *second;
  int accumulate, accumulate_second;
  int64_t columns, all;
  double alpha;
  SIMT void take(int64_t c, double sum) const {
    if (c < columns && out) put(out + c, accumulate, alpha * sum);
    if (c >= columns && second) put(second + (c - columns), accumulate_second, alpha * sum);
  }
};

template <class O> Gradients<O> one_gradient(O *out, int accumulate, int64_t columns, double alpha) {
  return {out, nullptr, accumulate, 0, columns, columns, alpha};
}
// Of lines that hold dweight and then dbias, of which one may be NULL.
template <class W> Gradients<W> two_gradients(W *dweight, int accumulate_weight, W *dbias, int accumulate_bias, int64_t columns) {
  return {dweight, dbias, accumulate_weight, accumulate_bias, columns, dbias ? 2 * columns : columns, 1};
}

// Numbers that other blocks of this launch have written.
template <int N, class T> SIMT Lanes<T, N> load_from_others(const T *p) {
#ifdef __CUDA_ARCH__
  Lanes<T, N> x;
  if constexpr (N * sizeof(T) == PACK_BYTES) {
    uint4 bits = __ldcg(reinterpret_cast<const uint4 *>(p));
    memcpy(&x, &bits, sizeof x);
  } else {
SIMT_UNROLL
    for (int k = 0; k < N; k++) x.at[k] = __ldcg(p + k);
  }
  return x;
#else
  return load<N>(p, N * sizeof(T) == PACK_BYTES);
#endif
}

// Every share of a tile of columns is a block's, which writes a line of them and comes here.
template <class O, class W> struct LastFold {
  static constexpr int AT_ONCE = 16;
  Gradients<O> to;
  W *lines;          // (shares, stride)
  unsigned *arrived; // (tiles, FOLD_GROUPS + 1)
  int64_t shares, stride;

  // The sum of `count` lines of numbers, `step` apart.
  template <int N> SIMT Lanes<W, N> add_up(const W *from, int64_t count, int64_t step) const {
    Lanes<W, N> sum{}, v[AT_ONCE];
    for (int64_t s = 0; s < count; s += AT_ONCE) {
SIMT_UNROLL
      for (int i = 0; i < AT_ONCE; i++) { // all loads before the first use
        v[i] = Lanes<W, N>{};
        if (s + i < count) v[i] = load_from_others<N>(from + (s + i) * step);
      }
SIMT_UNROLL
      for (int i = 0; i < AT_ONCE; i++) {
SIMT_UNROLL
        for (int k = 0; k < N; k++) sum.at[k] += v[i].at[k];
      }
    }
    return sum;
  }

  // Columns first to end - 1, which are whole N. `last` is in shared memory.
  template <int N, int THREADS>
  SIMT void run(const Block<THREADS> &block, int *last, int64_t tile, int64_t share, int64_t first, int64_t end) const {
    unsigned *counters = arrived + tile * (FOLD_GROUPS + 1);
    int64_t groups = shares < FOLD_GROUPS ? shares : FOLD_GROUPS;
    int64_t group = share % FOLD_GROUPS, members = ceil_div(shares - group, FOLD_GROUPS);
    if (members > 1) {
      if (!is_last(block, counters + group, (unsigned)members, last)) return;
      block.each([&](int thread) {
        for (int64_t c = first + (int64_t)thread * N; c < end; c += (int64_t)THREADS * N) {
          W *line = lines + group * stride + c;
          store(line, add_up<N>(line, members, FOLD_GROUPS * stride), N * sizeof(W) == PACK_BYTES);
        }
      });
    }
    if (!is_last(block, counters + FOLD_GROUPS, (unsigned)groups, last)) return;
    block.each([&](int thread) {
      for (int64_t c = first + (int64_t)thread * N; c < end; c += (int64_t)THREADS * N) {
        Lanes<W, N> sum = add_up<N>(lines + c, groups, stride);
SIMT_UNROLL
        for (int k = 0; k < N; k++) to.take(c + k, sum.at[k]);
      }
    });
  }
};

// Lines in scratch 0, and where blocks arrive.
template <class O, class W>
mb_status make_fold(LastFold<O, W> *out, const Gradients<O> &to, int64_t shares, int64_t stride, int64_t tiles) {
  *out = LastFold<O, W>{to, nullptr, nullptr, shares, stride};
  MB_TRY(scratch_of(&out->lines, 0, shares * stride));
  return arrivals(&out->arrived, tiles * (FOLD_GROUPS + 1));
}

// A block takes 32 columns; each of its warps adds up every 32nd share.
template <class O, class W> struct FoldLines {
  static constexpr int THREADS = FOLD_GROUPS * WARP;
  struct Shared {
    W sum[FOLD_GROUPS][WARP];
  };
  Gradients<O> to;
  const W *lines;
  int64_t shares, stride;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    block.each([&](int thread) {
      int64_t c = block.index * WARP + thread % WARP;
      W sum = 0;
      for (int64_t s = thread / WARP; c < to.all && s < shares; s += FOLD_GROUPS) sum += lines[s * stride + c];
      shared.sum[thread / WARP][thread % WARP] = sum;
    });
    block.each([&](int thread) {
      int64_t c = block.index * WARP + thread;
      if (thread >= WARP || c >= to.all) return;
      W sum = 0;
      for (int s = 0; s < FOLD_GROUPS; s++) sum += shared.sum[s][thread];
      to.take(c, sum);
    });
  }
};
template <class O, class W> mb_status fold_lines(const Gradients<O> &to, const W *lines, int64_t shares, int64_t stride, const char *name) {
  return launch(FoldLines<O, W>{to, lines, shares, stride}, ceil_div(to.all, WARP), name);
}

} // namespace mbk
#endif
