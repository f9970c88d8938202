// SPDX-License-Identifier: MIT
//
// rmsnorm.cu: rows of C elements, a block a row. With g = dy weight,
//   y = x rstd weight,   rstd = 1 / sqrt(mean(x^2) + epsilon)
//   dx = rstd g - x rstd^3 mean(g x),   dweight = sum over rows of dy x rstd
// dweight goes by shares of the rows, as in layernorm.cu.
#include "backend/cuda/rows.h"

namespace mbk {
namespace {

template <class T> struct Forward {
  using W = Wide<T>;
  static constexpr int THREADS = ROW_THREADS;
  using Shared = RowShared<W>;
  T *y;
  W *rstds;
  const T *x, *weight;
  int64_t columns;
  double epsilon;
  SIMT void run(const RowBlock &block, Shared &shared) const {
    const T *row = x + block.index * columns;
    W squares = row_sum(block, shared, columns, [&](int64_t c) { return (W)row[c] * (W)row[c]; });
    W rstd = W(1) / sqrt_of(squares / (W)columns + (W)epsilon);
    block.each([&](int thread) {
      for (int64_t c = thread; c < columns; c += THREADS) y[block.index * columns + c] = (T)((W)row[c] * rstd * (weight ? (W)weight[c] : W(1)));
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
  const W *rstds;
  const T *weight;
  int64_t columns;
  SIMT void run(const RowBlock &block, Shared &shared) const {
    int64_t first = block.index * columns;
    W rstd = rstds[block.index];
    W product = row_sum(block, shared, columns,
                        [&](int64_t c) { return (W)dy[first + c] * (weight ? (W)weight[c] : W(1)) * (W)x[first + c]; });
    W b = product / (W)columns * rstd * rstd * rstd;
    block.each([&](int thread) {
      for (int64_t c = thread; c < columns; c += THREADS) {
        W value = rstd * (W)dy[first + c] * (weight ? (W)weight[c] : W(1)) - (W)x[first + c] * b;
        dx[first + c] = (T)(accumulate ? (W)dx[first + c] + value : value);
      }
    });
  }
};

template <class T> struct Shares {
  using W = Wide<T>;
  W *lines; // (shares, C)
  const T *dy, *x;
  const W *rstds;
  int64_t rows, columns, shares;
  SIMT void operator()(int64_t i) const {
    int64_t share = i / columns, c = i % columns;
    W sum = 0;
    for (int64_t r = rows * share / shares; r < rows * (share + 1) / shares; r++) sum += (W)dy[r * columns + c] * (W)x[r * columns + c] * rstds[r];
    lines[i] = sum;
  }
};

} // namespace

template <class T>
mb_status Kernels<T>::rmsnorm(void *y, void *rstd, const void *x, const void *weight, int64_t rows, int64_t columns, double epsilon) {
  return launch(Forward<T>{(T *)y, (Wide<T> *)rstd, (const T *)x, (const T *)weight, columns, epsilon}, rows, "rmsnorm");
}

template <class T>
mb_status Kernels<T>::rmsnorm_backward(void *dx, int accumulate_x, void *dweight, int accumulate_weight, const void *dy, const void *x,
                                       const void *rstd, const void *weight, int64_t rows, int64_t columns) {
  const char *name = "rmsnorm_backward";
  if (dweight) {
    int64_t shares = row_shares(rows);
    Wide<T> *lines;
    MB_TRY(scratch_of(&lines, 0, shares * columns));
    MB_TRY(launch_elements(Shares<T>{lines, (const T *)dy, (const T *)x, (const Wide<T> *)rstd, rows, columns, shares}, shares * columns, name));
    MB_TRY(launch_elements(FoldLines<T>{(T *)dweight, accumulate_weight, lines, shares, columns}, columns, name));
  }
  if (!dx) return MB_OK;
  return launch(Backward<T>{(T *)dx, accumulate_x, (const T *)dy, (const T *)x, (const Wide<T> *)rstd, (const T *)weight, columns}, rows, name);
}

MBK_SLOT(rmsnorm);
MBK_SLOT(rmsnorm_backward);

} // namespace mbk
