// SPDX-License-Identifier: MIT
//
// rows.h: kernels over rows of contiguous elements: one block a row, and sums down the columns of many rows in an order
// that depends on the shape alone.
#ifndef MBK_CUDA_ROWS_H
#define MBK_CUDA_ROWS_H
#include "backend/cuda/math.h"
#include "backend/cuda/packs.h"

namespace mbk {

template <class W> struct RowShared {
  ReduceRoom<W> room;
};

// f(Count<threads>()) with as many threads for a row of T as keep it busy: a warp pair for rows of up to four packs each.
template <class T, class F> mb_status with_row_threads(int64_t columns, F f) {
  constexpr int FEW = 64, MANY = 256;
  return columns <= FEW * 4 * lanes_of<T>() ? f(Count<FEW>()) : f(Count<MANY>());
}

// The sum of f(lanes, first) over the parts of a row of n, shared out among the threads; the same for every thread.
template <int N, class W, int THREADS, class F> SIMT W row_sum(const Block<THREADS> &block, RowShared<W> &shared, int64_t n, F f) {
  Private<W, THREADS> mine;
  block.each([&](int thread) {
    W sum = 0;
    row_parts<N, THREADS>(thread, n, [&](auto lanes, int64_t first) { sum += f(lanes, first); });
    mine[thread] = sum;
  });
  return block.sum(mine, shared.room);
}

// A part of a weight or a bias, `otherwise` where there is none.
template <int N, class T> SIMT Lanes<T, N> load_or(const T *p, int64_t first, bool wide, float otherwise) {
  if (p) return load<N>(p + first, wide);
  Lanes<T, N> x;
SIMT_UNROLL
  for (int k = 0; k < N; k++) x.at[k] = (T)otherwise;
  return x;
}

// ----- sums down columns ----------------------------------------------------------------------------------------

// Rows are cut into this many shares for column sums.
inline int64_t row_shares(int64_t rows) {
  constexpr int64_t MOST = 512, LEAST_ROWS = 32;
  int64_t shares = ceil_div(rows, LEAST_ROWS);
  return shares < MOST ? shares : MOST;
}

// *out = or += sum, rounded to what out holds first.
template <class O> SIMT void put(O *out, int accumulate, double sum) {
  *out = accumulate ? (O)((Wide<O>)*out + (Wide<O>)(O)sum) : (O)sum;
}

// Column c of lines that are `columns` long, or twice as long: out[c] (+)= alpha times the sum over shares of lines[share * stride + c],
// and `second` takes what lies behind the first columns. A block takes 32 columns; each of its warps adds up every 32nd share, and
// their sums are added in order.
template <class O, class W> struct FoldLines {
  static constexpr int THREADS = 1024, SUMS = THREADS / WARP;
  struct Shared {
    W sum[SUMS][WARP];
  };
  O *out, *second;
  int accumulate, accumulate_second;
  const W *lines;
  int64_t shares, stride, columns, all;
  double alpha;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    block.each([&](int thread) {
      int64_t c = block.index * WARP + thread % WARP;
      W sum = 0;
      for (int64_t s = thread / WARP; c < all && s < shares; s += SUMS) sum += lines[s * stride + c];
      shared.sum[thread / WARP][thread % WARP] = sum;
    });
    block.each([&](int thread) {
      int64_t c = block.index * WARP + thread;
      if (thread >= WARP || c >= all) return;
      W sum = 0;
      for (int s = 0; s < SUMS; s++) sum += shared.sum[s][thread];
      if (c < columns) put(out + c, accumulate, alpha * sum);
      else put(second + (c - columns), accumulate_second, alpha * sum);
    });
  }
};
template <class O, class W>
mb_status fold_lines(O *out, int accumulate, const W *lines, int64_t shares, int64_t stride, int64_t columns, double alpha, const char *name) {
  O *none = nullptr;
  return launch(FoldLines<O, W>{out, none, accumulate, 0, lines, shares, stride, columns, columns, alpha}, ceil_div(columns, WARP), name);
}

// Lines of dweight and then dbias, of which one may be NULL.
template <class W>
mb_status fold_gradients(W *dweight, int accumulate_weight, W *dbias, int accumulate_bias, const W *lines, int64_t shares, int64_t columns,
                         const char *name) {
  if (!dbias) return fold_lines(dweight, accumulate_weight, lines, shares, 2 * columns, columns, 1, name);
  if (!dweight) return fold_lines(dbias, accumulate_bias, lines + columns, shares, 2 * columns, columns, 1, name);
  return launch(FoldLines<W, W>{dweight, dbias, accumulate_weight, accumulate_bias, lines, shares, 2 * columns, columns, 2 * columns, 1.0},
                ceil_div(2 * columns, WARP), name);
}

// f(Count<N>()) with the neighbouring columns that a thread of a column sum can take: a pack if all rows begin on
// boundaries, else one.
template <class T, class F> mb_status with_column_lanes(int64_t columns, bool aligned, F f) {
  return aligned && columns % lanes_of<T>() == 0 ? f(Count<lanes_of<T>()>()) : f(Count<1>());
}

} // namespace mbk
#endif
