// SPDX-License-Identifier: MIT
//
// rows.h: kernels over rows of contiguous elements: one block a row, and sums down the columns of many rows in an order
// that depends on the shape alone.
#ifndef MBK_CUDA_ROWS_H
#define MBK_CUDA_ROWS_H
#include "backend/cuda/math.h"

namespace mbk {

constexpr int ROW_THREADS = 256;
using RowBlock = Block<ROW_THREADS>;
template <class W> struct RowShared {
  ReduceRoom<W> room;
};

// The sum of f(i) over i < n, shared out among the threads; the same for every thread.
template <class W, class F> SIMT W row_sum(const RowBlock &block, RowShared<W> &shared, int64_t n, F f) {
  Private<W, ROW_THREADS> mine;
  block.each([&](int thread) {
    W sum = 0;
    for (int64_t i = thread; i < n; i += ROW_THREADS) sum += f(i);
    mine[thread] = sum;
  });
  return block.sum(mine, shared.room);
}

// Rows are cut into this many shares for column sums.
inline int64_t row_shares(int64_t rows) {
  constexpr int64_t MOST = 128, LEAST_ROWS = 32;
  int64_t shares = ceil_div(rows, LEAST_ROWS);
  return shares < MOST ? shares : MOST;
}

// out[c] (+)= sum over shares of lines[share * stride + c].
template <class T> struct FoldLines {
  T *out;
  int accumulate;
  const Wide<T> *lines;
  int64_t shares, stride;
  SIMT void operator()(int64_t c) const {
    Wide<T> sum = 0;
    for (int64_t s = 0; s < shares; s++) sum += lines[s * stride + c];
    out[c] = (T)(accumulate ? (Wide<T>)out[c] + sum : sum);
  }
};

} // namespace mbk
#endif
