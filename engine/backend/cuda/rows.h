// SPDX-License-Identifier: MIT
//
// rows.h: kernels over rows of contiguous elements: one block a row, and how many rows are cut for sums down their columns.
#ifndef MBK_CUDA_ROWS_H
#define MBK_CUDA_ROWS_H
#include "backend/cuda/folds.h"
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

// f(Count<N>()) with the neighbouring columns that a thread of a column sum can take: a pack if all rows begin on
// boundaries, else one.
template <class T, class F> mb_status with_column_lanes(int64_t columns, bool aligned, F f) {
  return aligned && columns % lanes_of<T>() == 0 ? f(Count<lanes_of<T>()>()) : f(Count<1>());
}

} // namespace mbk
#endif
