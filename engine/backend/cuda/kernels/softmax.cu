// SPDX-License-Identifier: MIT
//
// softmax.cu: y = exp(x - max x) / sum, or its logarithm, over the middle of (outer, size, inner).
//   dx = y (dy - sum dy y);   for the logarithm dx = dy - exp(y) sum dy
// inner = 1: a block a row. Else a thread a column, whose neighbours lie beside it. The maximum passes over NaN, the sum
// does not: a NaN makes all of its row NaN.
#include <cfloat>

#include "backend/cuda/rows.h"

namespace mbk {
namespace {

template <class T> SIMT T lowest();
template <> SIMT float lowest<float>() { return -FLT_MAX; }
template <> SIMT double lowest<double>() { return -DBL_MAX; }

template <class T> struct Rows {
  using W = Wide<T>;
  static constexpr int THREADS = ROW_THREADS;
  using Shared = RowShared<W>;
  T *y;
  const T *x;
  int64_t size;
  int is_log;
  SIMT void run(const RowBlock &block, Shared &shared) const {
    const T *row = x + block.index * size;
    T *out = y + block.index * size;
    Private<W, THREADS> mine;
    block.each([&](int thread) {
      W most = lowest<W>();
      for (int64_t i = thread; i < size; i += THREADS) most = (W)row[i] > most ? (W)row[i] : most;
      mine[thread] = most;
    });
    W most = block.most(mine, shared.room);
    W sum = row_sum(block, shared, size, [&](int64_t i) { return exp_of((W)row[i] - most); }), shift = most + log_of(sum), scale = 1 / sum;
    block.each([&](int thread) {
      for (int64_t i = thread; i < size; i += THREADS) out[i] = (T)(is_log ? (W)row[i] - shift : exp_of((W)row[i] - most) * scale);
    });
  }
};

template <class T> struct RowsBackward {
  using W = Wide<T>;
  static constexpr int THREADS = ROW_THREADS;
  using Shared = RowShared<W>;
  T *dx;
  int accumulate;
  const T *dy, *y;
  int64_t size;
  int is_log;
  SIMT void run(const RowBlock &block, Shared &shared) const {
    int64_t first = block.index * size;
    W sum = row_sum(block, shared, size, [&](int64_t i) { return is_log ? (W)dy[first + i] : (W)dy[first + i] * (W)y[first + i]; });
    block.each([&](int thread) {
      for (int64_t i = first + thread; i < first + size; i += THREADS) {
        W value = is_log ? (W)dy[i] - exp_of((W)y[i]) * sum : (W)y[i] * ((W)dy[i] - sum);
        dx[i] = (T)(accumulate ? (W)dx[i] + value : value);
      }
    });
  }
};

template <class T> struct Columns {
  using W = Wide<T>;
  T *y;
  const T *x;
  int64_t size, inner;
  int is_log;
  SIMT void operator()(int64_t i) const {
    int64_t first = i / inner * size * inner + i % inner, last = first + size * inner;
    W most = lowest<W>(), sum = 0;
    for (int64_t j = first; j < last; j += inner) most = (W)x[j] > most ? (W)x[j] : most;
    for (int64_t j = first; j < last; j += inner) sum += exp_of((W)x[j] - most);
    W shift = most + log_of(sum), scale = 1 / sum;
    for (int64_t j = first; j < last; j += inner) y[j] = (T)(is_log ? (W)x[j] - shift : exp_of((W)x[j] - most) * scale);
  }
};

template <class T> struct ColumnsBackward {
  using W = Wide<T>;
  T *dx;
  int accumulate;
  const T *dy, *y;
  int64_t size, inner;
  int is_log;
  SIMT void operator()(int64_t i) const {
    int64_t first = i / inner * size * inner + i % inner, last = first + size * inner;
    W sum = 0;
    for (int64_t j = first; j < last; j += inner) sum += is_log ? (W)dy[j] : (W)dy[j] * (W)y[j];
    for (int64_t j = first; j < last; j += inner) {
      W value = is_log ? (W)dy[j] - exp_of((W)y[j]) * sum : (W)y[j] * ((W)dy[j] - sum);
      dx[j] = (T)(accumulate ? (W)dx[j] + value : value);
    }
  }
};

} // namespace

template <class T> mb_status Kernels<T>::softmax(void *y, const void *x, int64_t outer, int64_t size, int64_t inner, int is_log) {
  if (inner == 1) return launch(Rows<T>{(T *)y, (const T *)x, size, is_log}, outer, "softmax");
  return launch_elements(Columns<T>{(T *)y, (const T *)x, size, inner, is_log}, outer * inner, "softmax");
}

template <class T>
mb_status Kernels<T>::softmax_backward(void *dx, int accumulate, const void *dy, const void *y, int64_t outer, int64_t size,
                                       int64_t inner, int is_log) {
  const char *name = "softmax_backward";
  if (inner == 1) return launch(RowsBackward<T>{(T *)dx, accumulate, (const T *)dy, (const T *)y, size, is_log}, outer, name);
  return launch_elements(ColumnsBackward<T>{(T *)dx, accumulate, (const T *)dy, (const T *)y, size, inner, is_log}, outer * inner, name);
}

MBK_SLOT(softmax);
MBK_SLOT(softmax_backward);

} // namespace mbk
