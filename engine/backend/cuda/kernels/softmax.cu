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

template <class T, int THREADS_> struct Rows {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_, LANES = lanes_of<T>();
  using Shared = RowShared<W>;
  T *y;
  const T *x;
  int64_t size;
  int is_log;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const T *row = x + block.index * size;
    T *out = y + block.index * size;
    bool wide = on_boundary(row) && on_boundary(out);
    Private<W, THREADS> mine;
    block.each([&](int thread) {
      W most = lowest<W>();
      row_parts<LANES, THREADS>(thread, size, [&](auto lanes, int64_t i) {
        auto v = load<decltype(lanes)::value>(row + i, wide);
SIMT_UNROLL
        for (int k = 0; k < decltype(lanes)::value; k++) most = (W)v.at[k] > most ? (W)v.at[k] : most;
      });
      mine[thread] = most;
    });
    W most = block.most(mine, shared.room);
    W sum = row_sum<LANES>(block, shared, size, [&](auto lanes, int64_t i) {
      auto v = load<decltype(lanes)::value>(row + i, wide);
      W part = 0;
SIMT_UNROLL
      for (int k = 0; k < decltype(lanes)::value; k++) part += exp_of((W)v.at[k] - most);
      return part;
    });
    W shift = most + log_of(sum), scale = 1 / sum;
    block.each([&](int thread) {
      row_parts<LANES, THREADS>(thread, size, [&](auto lanes, int64_t i) {
        auto v = load<decltype(lanes)::value>(row + i, wide);
SIMT_UNROLL
        for (int k = 0; k < decltype(lanes)::value; k++)
          v.at[k] = (T)(is_log ? (W)v.at[k] - shift : exp_of((W)v.at[k] - most) * scale);
        store(out + i, v, wide);
      });
    });
  }
};

template <class T, int THREADS_> struct RowsBackward {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_, LANES = lanes_of<T>();
  using Shared = RowShared<W>;
  T *dx;
  int accumulate;
  const T *dy, *y;
  int64_t size;
  int is_log;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const T *g_row = dy + block.index * size, *row = y + block.index * size;
    T *out = dx + block.index * size;
    bool wide = on_boundary(g_row) && on_boundary(row) && on_boundary(out);
    W sum = row_sum<LANES>(block, shared, size, [&](auto lanes, int64_t i) {
      constexpr int N = decltype(lanes)::value;
      Lanes<T, N> d = load<N>(g_row + i, wide), v = load<N>(row + i, wide);
      W part = 0;
SIMT_UNROLL
      for (int k = 0; k < N; k++) part += is_log ? (W)d.at[k] : (W)d.at[k] * (W)v.at[k];
      return part;
    });
    block.each([&](int thread) {
      row_parts<LANES, THREADS>(thread, size, [&](auto lanes, int64_t i) {
        constexpr int N = decltype(lanes)::value;
        Lanes<T, N> d = load<N>(g_row + i, wide), v = load<N>(row + i, wide), before{};
        if (accumulate) before = load<N>(out + i, wide);
SIMT_UNROLL
        for (int k = 0; k < N; k++) {
          W value = is_log ? (W)d.at[k] - exp_of((W)v.at[k]) * sum : (W)v.at[k] * ((W)d.at[k] - sum);
          v.at[k] = (T)(accumulate ? (W)before.at[k] + value : value);
        }
        store(out + i, v, wide);
      });
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
  if (inner == 1)
    return with_row_threads<T>(size, [&](auto threads) {
      return launch(Rows<T, decltype(threads)::value>{(T *)y, (const T *)x, size, is_log}, outer, "softmax");
    });
  return launch_elements(Columns<T>{(T *)y, (const T *)x, size, inner, is_log}, outer * inner, "softmax");
}

template <class T>
mb_status Kernels<T>::softmax_backward(void *dx, int accumulate, const void *dy, const void *y, int64_t outer, int64_t size,
                                       int64_t inner, int is_log) {
  const char *name = "softmax_backward";
  if (inner == 1)
    return with_row_threads<T>(size, [&](auto threads) {
      return launch(RowsBackward<T, decltype(threads)::value>{(T *)dx, accumulate, (const T *)dy, (const T *)y, size, is_log}, outer, name);
    });
  return launch_elements(ColumnsBackward<T>{(T *)dx, accumulate, (const T *)dy, (const T *)y, size, inner, is_log}, outer * inner, name);
}

MBK_SLOT(softmax);
MBK_SLOT(softmax_backward);

} // namespace mbk
