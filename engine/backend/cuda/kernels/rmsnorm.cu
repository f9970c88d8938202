// SPDX-License-Identifier: MIT
//
// rmsnorm.cu: rows of C elements. With g = dy weight,
//   y = x rstd weight,   rstd = 1 / sqrt(mean(x^2) + epsilon)
//   dx = rstd g - x rstd^3 mean(g x),   dweight = sum over rows of dy x rstd
// Rows that fit into a warp's registers, and what the others take, are as in layernorm.cu.
#include "backend/cuda/warp_rows.h"

namespace mbk {
namespace {

template <class T, int THREADS_> struct Forward {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_, LANES = lanes_of<T>();
  using Shared = RowShared<W>;
  T *y;
  W *rstds;
  const T *x, *weight;
  int64_t columns;
  double epsilon;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const T *row = x + block.index * columns;
    T *out = y + block.index * columns;
    bool wide = on_boundary(row) && on_boundary(out) && on_boundary(weight);
    W squares = row_sum<LANES>(block, shared, columns, [&](auto lanes, int64_t c) {
      auto v = load<decltype(lanes)::value>(row + c, wide);
      W sum = 0;
SIMT_UNROLL
      for (int k = 0; k < decltype(lanes)::value; k++) sum += (W)v.at[k] * (W)v.at[k];
      return sum;
    });
    W rstd = W(1) / sqrt_of(squares / (W)columns + (W)epsilon);
    block.each([&](int thread) {
      row_parts<LANES, THREADS>(thread, columns, [&](auto lanes, int64_t c) {
        constexpr int N = decltype(lanes)::value;
        Lanes<T, N> v = load<N>(row + c, wide), w = load_or<N>(weight, c, wide, 1.0f);
SIMT_UNROLL
        for (int k = 0; k < N; k++) v.at[k] = (T)((W)v.at[k] * rstd * (W)w.at[k]);
        store(out + c, v, wide);
      });
      if (thread == 0 && rstds) rstds[block.index] = rstd;
    });
  }
};

template <class T, int THREADS_> struct Backward {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_, LANES = lanes_of<T>();
  using Shared = RowShared<W>;
  T *dx;
  int accumulate;
  const T *dy, *x;
  const W *rstds;
  const T *weight;
  int64_t columns;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const T *g_row = dy + block.index * columns, *row = x + block.index * columns;
    T *out = dx + block.index * columns;
    bool wide = on_boundary(g_row) && on_boundary(row) && on_boundary(out) && on_boundary(weight);
    W rstd = rstds[block.index];
    W product = row_sum<LANES>(block, shared, columns, [&](auto lanes, int64_t c) {
      constexpr int N = decltype(lanes)::value;
      Lanes<T, N> d = load<N>(g_row + c, wide), v = load<N>(row + c, wide), w = load_or<N>(weight, c, wide, 1.0f);
      W sum = 0;
SIMT_UNROLL
      for (int k = 0; k < N; k++) sum += (W)d.at[k] * (W)w.at[k] * (W)v.at[k];
      return sum;
    });
    W b = product / (W)columns * rstd * rstd * rstd;
    block.each([&](int thread) {
      row_parts<LANES, THREADS>(thread, columns, [&](auto lanes, int64_t c) {
        constexpr int N = decltype(lanes)::value;
        Lanes<T, N> d = load<N>(g_row + c, wide), v = load<N>(row + c, wide), w = load_or<N>(weight, c, wide, 1.0f), before{};
        if (accumulate) before = load<N>(out + c, wide);
SIMT_UNROLL
        for (int k = 0; k < N; k++) {
          W value = rstd * (W)d.at[k] * (W)w.at[k] - (W)v.at[k] * b;
          v.at[k] = (T)(accumulate ? (W)before.at[k] + value : value);
        }
        store(out + c, v, wide);
      });
    });
  }
};

// lines (shares, C): shares of dweight; a thread takes N columns of a share.
template <class T, int N> struct Shares {
  using W = Wide<T>;
  W *lines;
  const T *dy, *x;
  const W *rstds;
  int64_t rows, columns, shares;
  SIMT void operator()(int64_t i) const {
    int64_t share = i / (columns / N), c = i % (columns / N) * N;
    Lanes<W, N> sum{};
    for (int64_t r = rows * share / shares; r < rows * (share + 1) / shares; r++) {
      Lanes<T, N> d = load<N>(dy + r * columns + c, true), v = load<N>(x + r * columns + c, true);
      W rstd = rstds[r];
SIMT_UNROLL
      for (int k = 0; k < N; k++) sum.at[k] += (W)d.at[k] * (W)v.at[k] * rstd;
    }
    store(lines + share * columns + c, sum, true);
  }
};

template <class T>
mb_status weight_gradient(Wide<T> *dweight, int accumulate, const T *dy, const T *x, const Wide<T> *rstds, int64_t rows, int64_t columns,
                          const char *name) {
  int64_t shares = row_shares(rows);
  Wide<T> *partial;
  MB_TRY(scratch_of(&partial, 0, shares * columns));
  MB_TRY(with_column_lanes<T>(columns, on_boundary(dy) && on_boundary(x), [&](auto lanes) {
    constexpr int N = decltype(lanes)::value;
    return launch_elements(Shares<T, N>{partial, dy, x, rstds, rows, columns, shares}, shares * (columns / N), name);
  }));
  return fold_lines(one_gradient(dweight, accumulate, columns, 1), partial, shares, columns, name);
}

} // namespace

template <class T>
mb_status Kernels<T>::rmsnorm(void *y, void *rstd, void *sum, const void *x, const void *added, const void *weight, int64_t rows,
                              int64_t columns, double epsilon) {
  const char *name = "rmsnorm";
  T *to = (T *)y, *s = (T *)sum;
  Wide<T> *rstds = (Wide<T> *)rstd;
  const T *from = (const T *)x, *w = (const T *)weight, *none = nullptr;
  return with_warp_rows<T>(
    columns,
    [&](auto packs) {
      using K = WarpForward<T, decltype(packs)::value, false>;
      return launch(K{to, nullptr, rstds, s, from, (const T *)added, w, none, rows, columns, epsilon}, ceil_div(rows, K::WARPS), name);
    },
    [&] {
      if (added) MB_TRY(add_rows(s, from, (const T *)added, rows * columns));
      const T *normed = added ? s : from;
      return with_row_threads<T>(columns, [&](auto threads) {
        return launch(Forward<T, decltype(threads)::value>{to, rstds, normed, w, columns, epsilon}, rows, name);
      });
    });
}

template <class T>
mb_status Kernels<T>::rmsnorm_backward(void *dx, int accumulate_x, void *dweight, int accumulate_weight, const void *dy, const void *x,
                                       const void *rstd, const void *weight, int64_t rows, int64_t columns) {
  const char *name = "rmsnorm_backward";
  T *to = (T *)dx;
  Wide<T> *to_weight = (Wide<T> *)dweight, *none = nullptr;
  const T *g = (const T *)dy, *v = (const T *)x, *w = (const T *)weight;
  const Wide<T> *rstds = (const Wide<T> *)rstd, *means = nullptr;
  auto apart = [&] {
    if (dweight) MB_TRY(weight_gradient(to_weight, accumulate_weight, g, v, rstds, rows, columns, name));
    if (!dx) return MB_OK;
    return with_row_threads<T>(columns, [&](auto threads) {
      return launch(Backward<T, decltype(threads)::value>{to, accumulate_x, g, v, rstds, w, columns}, rows, name);
    });
  };
  if (!dx) return apart();
  return with_warp_rows<T>(
    columns,
    [&](auto packs) {
      return launch_warp_backward<false>(packs, to, accumulate_x, to_weight, accumulate_weight, none, 0, g, v, means, rstds, w, rows, columns,
                                         name);
    },
    apart);
}

MBK_SLOT(rmsnorm);
MBK_SLOT(rmsnorm_backward);

} // namespace mbk
