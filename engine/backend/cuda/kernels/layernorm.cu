// SPDX-License-Identifier: MIT
//
// layernorm.cu: rows of C elements, a block a row. With xhat = (x - mean) rstd and g = dy weight,
//   y = xhat weight + bias,   rstd = 1 / sqrt(mean((x - mean)^2) + epsilon)
//   dx = rstd (g - mean(g) - xhat mean(g xhat)),   dweight = sum over rows of dy xhat,   dbias = sum of dy
// dweight and dbias: a thread takes one column of one share of the rows, and the shares are added in order.
#include "backend/cuda/rows.h"

namespace mbk {
namespace {

template <class T> struct Forward {
  using W = Wide<T>;
  static constexpr int THREADS = ROW_THREADS;
  using Shared = RowShared<W>;
  T *y;
  W *means, *rstds;
  const T *x, *weight, *bias;
  int64_t columns;
  double epsilon;
  SIMT void run(const RowBlock &block, Shared &shared) const {
    const T *row = x + block.index * columns;
    T *out = y + block.index * columns;
    W mean = row_sum(block, shared, columns, [&](int64_t c) { return (W)row[c]; }) / (W)columns;
    W squares = row_sum(block, shared, columns, [&](int64_t c) { return ((W)row[c] - mean) * ((W)row[c] - mean); });
    W rstd = W(1) / sqrt_of(squares / (W)columns + (W)epsilon);
    block.each([&](int thread) {
      for (int64_t c = thread; c < columns; c += THREADS)
        out[c] = (T)(((W)row[c] - mean) * rstd * (weight ? (W)weight[c] : W(1)) + (bias ? (W)bias[c] : W(0)));
      if (thread == 0 && means) means[block.index] = mean;
      if (thread == 0 && rstds) rstds[block.index] = rstd;
    });
  }
};

template <class T> struct Backward {
  using W = Wide<T>;
  static constexpr int THREADS = ROW_THREADS;
  using Shared = RowShared<W>;
  T *dx;
  int accumulate;
  const T *dy, *x;
  const W *means, *rstds;
  const T *weight;
  int64_t columns;
  SIMT void run(const RowBlock &block, Shared &shared) const {
    int64_t first = block.index * columns;
    W mean = means[block.index], rstd = rstds[block.index];
    Private<W, THREADS> sum_g, sum_gx;
    block.each([&](int thread) {
      W g_sum = 0, gx_sum = 0;
      for (int64_t c = thread; c < columns; c += THREADS) {
        W g = (W)dy[first + c] * (weight ? (W)weight[c] : W(1));
        g_sum += g;
        gx_sum += g * ((W)x[first + c] - mean) * rstd;
      }
      sum_g[thread] = g_sum, sum_gx[thread] = gx_sum;
    });
    W mean_g = block.sum(sum_g, shared.room) / (W)columns, mean_gx = block.sum(sum_gx, shared.room) / (W)columns;
    block.each([&](int thread) {
      for (int64_t c = thread; c < columns; c += THREADS) {
        W g = (W)dy[first + c] * (weight ? (W)weight[c] : W(1)), xhat = ((W)x[first + c] - mean) * rstd;
        W value = rstd * (g - mean_g - xhat * mean_gx);
        dx[first + c] = (T)(accumulate ? (W)dx[first + c] + value : value);
      }
    });
  }
};

// lines (shares, 2, C): shares of dweight and dbias.
template <class T> struct Shares {
  using W = Wide<T>;
  W *lines;
  const T *dy, *x;
  const W *means, *rstds;
  int64_t rows, columns, shares;
  SIMT void operator()(int64_t i) const {
    int64_t share = i / columns, c = i % columns;
    W dweight = 0, dbias = 0;
    for (int64_t r = rows * share / shares; r < rows * (share + 1) / shares; r++) {
      W d = dy[r * columns + c];
      dweight += d * ((W)x[r * columns + c] - means[r]) * rstds[r];
      dbias += d;
    }
    lines[share * 2 * columns + c] = dweight;
    lines[share * 2 * columns + columns + c] = dbias;
  }
};

} // namespace

template <class T>
mb_status Kernels<T>::layernorm(void *y, void *mean, void *rstd, const void *x, const void *weight, const void *bias, int64_t rows,
                                int64_t columns, double epsilon) {
  return launch(Forward<T>{(T *)y, (Wide<T> *)mean, (Wide<T> *)rstd, (const T *)x, (const T *)weight, (const T *)bias, columns, epsilon}, rows,
                "layernorm");
}

template <class T>
mb_status Kernels<T>::layernorm_backward(void *dx, int accumulate_x, void *dweight, int accumulate_weight, void *dbias,
                                         int accumulate_bias, const void *dy, const void *x, const void *mean, const void *rstd,
                                         const void *weight, int64_t rows, int64_t columns) {
  const char *name = "layernorm_backward";
  if (dweight || dbias) {
    int64_t shares = row_shares(rows);
    Wide<T> *lines;
    MB_TRY(scratch_of(&lines, 0, shares * 2 * columns));
    MB_TRY(launch_elements(Shares<T>{lines, (const T *)dy, (const T *)x, (const Wide<T> *)mean, (const Wide<T> *)rstd, rows, columns, shares},
                           shares * columns, name));
    if (dweight) MB_TRY(launch_elements(FoldLines<T>{(T *)dweight, accumulate_weight, lines, shares, 2 * columns}, columns, name));
    if (dbias) MB_TRY(launch_elements(FoldLines<T>{(T *)dbias, accumulate_bias, lines + columns, shares, 2 * columns}, columns, name));
  }
  if (!dx) return MB_OK;
  return launch(Backward<T>{(T *)dx, accumulate_x, (const T *)dy, (const T *)x, (const Wide<T> *)mean, (const Wide<T> *)rstd, (const T *)weight, columns},
                rows, name);
}

MBK_SLOT(layernorm);
MBK_SLOT(layernorm_backward);

} // namespace mbk
