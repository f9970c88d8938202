// SPDX-License-Identifier: MIT
//
// rows.h: kernels over rows of contiguous elements: one block a row, and sums down the columns of many rows in an order
// that depends on the shape alone.
#ifndef MBK_CUDA_ROWS_H
#define MBK_CUDA_ROWS_H
#include "backend/cuda/math.h"

namespace mbk {

constexpr int ROW_THREADS = 256;

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
