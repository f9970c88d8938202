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
  static constexpr int THREADS = ROW_THREADS;
  struct Shared {
    ReduceRoom<T> room;
  };
  T *y, *means, *rstds;
  const T *x, *weight, *bias;
  int64_t columns;
  double epsilon;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const T *row = x + block.index * columns;
    T *out = y + block.index * columns;
    Private<T, THREADS> mine;
    block.each([&](int thread) {
      T sum = 0;
      for (int64_t c = thread; c < columns; c += THREADS) sum += row[c];
      mine[thread] = sum;
    });
    T mean = block.sum(mine, shared.room) / (T)columns;
    block.each([&](int thread) {
      T sum = 0;
      for (int64_t c = thread; c < columns; c += THREADS) sum += (row[c] - mean) * (row[c] - mean);
      mine[thread] = sum;
    });
    T rstd = T(1) / sqrt_of(block.sum(mine, shared.room) / (T)columns + (T)epsilon);
    block.each([&](int thread) {
      for (int64_t c = thread; c < columns; c += THREADS)
        out[c] = (row[c] - mean) * rstd * (weight ? weight[c] : T(1)) + (bias ? bias[c] : T(0));
      if (thread == 0 && means) means[block.index] = mean;
      if (thread == 0 && rstds) rstds[block.index] = rstd;
    });
  }
};

template <class T> struct Backward {
  static constexpr int THREADS = ROW_THREADS;
  struct Shared {
    ReduceRoom<T> room;
  };
  T *dx;
  int accumulate;
  const T *dy, *x, *means, *rstds, *weight;
  int64_t columns;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t first = block.index * columns;
    T mean = means[block.index], rstd = rstds[block.index];
    Private<T, THREADS> sum_g, sum_gx;
    block.each([&](int thread) {
      T g_sum = 0, gx_sum = 0;
      for (int64_t c = thread; c < columns; c += THREADS) {
        T g = dy[first + c] * (weight ? weight[c] : T(1));
        g_sum += g;
        gx_sum += g * (x[first + c] - mean) * rstd;
      }
      sum_g[thread] = g_sum, sum_gx[thread] = gx_sum;
    });
    T mean_g = block.sum(sum_g, shared.room) / (T)columns, mean_gx = block.sum(sum_gx, shared.room) / (T)columns;
    block.each([&](int thread) {
      for (int64_t c = thread; c < columns; c += THREADS) {
        T g = dy[first + c] * (weight ? weight[c] : T(1)), xhat = (x[first + c] - mean) * rstd;
        T value = rstd * (g - mean_g - xhat * mean_gx);
        dx[first + c] = accumulate ? dx[first + c] + value : value;
      }
    });
  }
};

// lines (shares, 2, C): shares of dweight and dbias.
template <class T> struct Shares {
  T *lines;
  const T *dy, *x, *means, *rstds;
  int64_t rows, columns, shares;
  SIMT void operator()(int64_t i) const {
    int64_t share = i / columns, c = i % columns;
    T dweight = 0, dbias = 0;
    for (int64_t r = rows * share / shares; r < rows * (share + 1) / shares; r++) {
      T d = dy[r * columns + c];
      dweight += d * (x[r * columns + c] - means[r]) * rstds[r];
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
  return launch(Forward<T>{(T *)y, (T *)mean, (T *)rstd, (const T *)x, (const T *)weight, (const T *)bias, columns, epsilon}, rows,
                "layernorm");
}

template <class T>
mb_status Kernels<T>::layernorm_backward(void *dx, int accumulate_x, void *dweight, int accumulate_weight, void *dbias,
                                         int accumulate_bias, const void *dy, const void *x, const void *mean, const void *rstd,
                                         const void *weight, int64_t rows, int64_t columns) {
  const char *name = "layernorm_backward";
  if (dweight || dbias) {
    int64_t shares = row_shares(rows);
    T *lines;
    MB_TRY(scratch_of(&lines, 0, shares * 2 * columns));
    MB_TRY(launch_elements(Shares<T>{lines, (const T *)dy, (const T *)x, (const T *)mean, (const T *)rstd, rows, columns, shares},
                           shares * columns, name));
    if (dweight) MB_TRY(launch_elements(FoldLines<T>{(T *)dweight, accumulate_weight, lines, shares, 2 * columns}, columns, name));
    if (dbias) MB_TRY(launch_elements(FoldLines<T>{(T *)dbias, accumulate_bias, lines + columns, shares, 2 * columns}, columns, name));
  }
  if (!dx) return MB_OK;
  return launch(Backward<T>{(T *)dx, accumulate_x, (const T *)dy, (const T *)x, (const T *)mean, (const T *)rstd, (const T *)weight, columns},
                rows, name);
}

MBK_SLOT(layernorm);
MBK_SLOT(layernorm_backward);

} // namespace mbk
