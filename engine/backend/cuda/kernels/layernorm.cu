// SPDX-License-Identifier: MIT
//
// layernorm.cu: rows of C elements. With xhat = (x - mean) rstd and g = dy weight,
//   y = xhat weight + bias,   rstd = 1 / sqrt(mean((x - mean)^2) + epsilon)
//   dx = rstd (g - mean(g) - xhat mean(g xhat)),   dweight = sum over rows of dy xhat,   dbias = sum of dy
// Rows of whole packs that fit into a warp's registers are warp_rows.h's. The kernels here are for the others: a block a row, and for
// dweight and dbias a thread for a few columns of one share of the rows, whose shares are added in order.
#include "backend/cuda/warp_rows.h"

namespace mbk {
namespace {

template <class T, int THREADS_> struct Forward {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_, LANES = lanes_of<T>();
  using Shared = RowShared<W>;
  T *y;
  W *means, *rstds;
  const T *x, *weight, *bias;
  int64_t columns;
  double epsilon;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const T *row = x + block.index * columns;
    T *out = y + block.index * columns;
    bool wide = on_boundary(row) && on_boundary(out) && on_boundary(weight) && on_boundary(bias);
    W mean = row_sum<LANES>(block, shared, columns, [&](auto lanes, int64_t c) {
      auto v = load<decltype(lanes)::value>(row + c, wide);
      W sum = 0;
SIMT_UNROLL
      for (int k = 0; k < decltype(lanes)::value; k++) sum += (W)v.at[k];
      return sum;
    }) / (W)columns;
    W squares = row_sum<LANES>(block, shared, columns, [&](auto lanes, int64_t c) {
      auto v = load<decltype(lanes)::value>(row + c, wide);
      W sum = 0;
SIMT_UNROLL
      for (int k = 0; k < decltype(lanes)::value; k++) sum += ((W)v.at[k] - mean) * ((W)v.at[k] - mean);
      return sum;
    });
    W rstd = W(1) / sqrt_of(squares / (W)columns + (W)epsilon);
    block.each([&](int thread) {
      row_parts<LANES, THREADS>(thread, columns, [&](auto lanes, int64_t c) {
        constexpr int N = decltype(lanes)::value;
        Lanes<T, N> v = load<N>(row + c, wide), w = load_or<N>(weight, c, wide, 1.0f), b = load_or<N>(bias, c, wide, 0.0f);
SIMT_UNROLL
        for (int k = 0; k < N; k++) v.at[k] = (T)(((W)v.at[k] - mean) * rstd * (W)w.at[k] + (W)b.at[k]);
        store(out + c, v, wide);
      });
      if (thread == 0 && means) means[block.index] = mean;
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
  const W *means, *rstds;
  const T *weight;
  int64_t columns;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const T *g_row = dy + block.index * columns, *row = x + block.index * columns;
    T *out = dx + block.index * columns;
    bool wide = on_boundary(g_row) && on_boundary(row) && on_boundary(out) && on_boundary(weight);
    W mean = means[block.index], rstd = rstds[block.index];
    Private<W, THREADS> sum_g, sum_gx;
    block.each([&](int thread) {
      W g_sum = 0, gx_sum = 0;
      row_parts<LANES, THREADS>(thread, columns, [&](auto lanes, int64_t c) {
        constexpr int N = decltype(lanes)::value;
        Lanes<T, N> d = load<N>(g_row + c, wide), v = load<N>(row + c, wide), w = load_or<N>(weight, c, wide, 1.0f);
SIMT_UNROLL
        for (int k = 0; k < N; k++) {
          W g = (W)d.at[k] * (W)w.at[k];
          g_sum += g;
          gx_sum += g * ((W)v.at[k] - mean) * rstd;
        }
      });
      sum_g[thread] = g_sum, sum_gx[thread] = gx_sum;
    });
    W mean_g = block.sum(sum_g, shared.room) / (W)columns, mean_gx = block.sum(sum_gx, shared.room) / (W)columns;
    block.each([&](int thread) {
      row_parts<LANES, THREADS>(thread, columns, [&](auto lanes, int64_t c) {
        constexpr int N = decltype(lanes)::value;
        Lanes<T, N> d = load<N>(g_row + c, wide), v = load<N>(row + c, wide), w = load_or<N>(weight, c, wide, 1.0f), before{};
        if (accumulate) before = load<N>(out + c, wide);
SIMT_UNROLL
        for (int k = 0; k < N; k++) {
          W g = (W)d.at[k] * (W)w.at[k], xhat = ((W)v.at[k] - mean) * rstd;
          W value = rstd * (g - mean_g - xhat * mean_gx);
          v.at[k] = (T)(accumulate ? (W)before.at[k] + value : value);
        }
        store(out + c, v, wide);
      });
    });
  }
};

// lines (shares, 2, C): shares of dweight and dbias; a thread takes N columns of a share.
template <class T, int N> struct Shares {
  using W = Wide<T>;
  W *lines;
  const T *dy, *x;
  const W *means, *rstds;
  int64_t rows, columns, shares;
  SIMT void operator()(int64_t i) const {
    int64_t share = i / (columns / N), c = i % (columns / N) * N;
    Lanes<W, N> dweight{}, dbias{};
    for (int64_t r = rows * share / shares; r < rows * (share + 1) / shares; r++) {
      Lanes<T, N> d = load<N>(dy + r * columns + c, true), v = load<N>(x + r * columns + c, true);
      W mean = means[r], rstd = rstds[r];
SIMT_UNROLL
      for (int k = 0; k < N; k++) {
        dweight.at[k] += (W)d.at[k] * ((W)v.at[k] - mean) * rstd;
        dbias.at[k] += (W)d.at[k];
      }
    }
    store(lines + share * 2 * columns + c, dweight, true);
    store(lines + share * 2 * columns + columns + c, dbias, true);
  }
};

template <class T>
mb_status parameter_gradients(Wide<T> *dweight, int accumulate_weight, Wide<T> *dbias, int accumulate_bias, const T *dy, const T *x,
                              const Wide<T> *means, const Wide<T> *rstds, int64_t rows, int64_t columns, const char *name) {
  int64_t shares = row_shares(rows);
  Wide<T> *partial;
  MB_TRY(scratch_of(&partial, 0, shares * 2 * columns));
  MB_TRY(with_column_lanes<T>(columns, on_boundary(dy) && on_boundary(x), [&](auto lanes) {
    constexpr int N = decltype(lanes)::value;
    return launch_elements(Shares<T, N>{partial, dy, x, means, rstds, rows, columns, shares}, shares * (columns / N), name);
  }));
  return fold_lines(two_gradients(dweight, accumulate_weight, dbias, accumulate_bias, columns), partial, shares, 2 * columns, name);
}

} // namespace

template <class T>
mb_status Kernels<T>::layernorm(void *y, void *mean, void *rstd, void *sum, const void *x, const void *added, const void *weight,
                                const void *bias, int64_t rows, int64_t columns, double epsilon) {
  using W = Wide<T>;
  const char *name = "layernorm";
  T *to = (T *)y, *s = (T *)sum;
  W *means = (W *)mean, *rstds = (W *)rstd;
  const T *from = (const T *)x, *w = (const T *)weight, *b = (const T *)bias;
  return with_warp_rows<T>(
    columns,
    [&](auto packs) {
      using K = WarpForward<T, decltype(packs)::value, true>;
      return launch(K{to, means, rstds, s, from, (const T *)added, w, b, rows, columns, epsilon}, ceil_div(rows, K::WARPS), name);
    },
    [&] {
      if (added) MB_TRY(add_rows(s, from, (const T *)added, rows * columns));
      const T *normed = added ? s : from;
      return with_row_threads<T>(columns, [&](auto threads) {
        return launch(Forward<T, decltype(threads)::value>{to, means, rstds, normed, w, b, columns, epsilon}, rows, name);
      });
    });
}

template <class T>
mb_status Kernels<T>::layernorm_backward(void *dx, int accumulate_x, void *dweight, int accumulate_weight, void *dbias,
                                         int accumulate_bias, const void *dy, const void *x, const void *mean, const void *rstd,
                                         const void *weight, int64_t rows, int64_t columns) {
  using W = Wide<T>;
  const char *name = "layernorm_backward";
  T *to = (T *)dx;
  W *to_weight = (W *)dweight, *to_bias = (W *)dbias;
  const T *g = (const T *)dy, *v = (const T *)x, *w = (const T *)weight;
  const W *means = (const W *)mean, *rstds = (const W *)rstd;
  auto apart = [&] {
    if (dweight || dbias)
      MB_TRY(parameter_gradients(to_weight, accumulate_weight, to_bias, accumulate_bias, g, v, means, rstds, rows, columns, name));
    if (!dx) return MB_OK;
    return with_row_threads<T>(columns, [&](auto threads) {
      return launch(Backward<T, decltype(threads)::value>{to, accumulate_x, g, v, means, rstds, w, columns}, rows, name);
    });
  };
  if (!dx) return apart();
  return with_warp_rows<T>(
    columns,
    [&](auto packs) {
      return launch_warp_backward<true>(packs, to, accumulate_x, to_weight, accumulate_weight, to_bias, accumulate_bias, g, v, means, rstds, w,
                                        rows, columns, name);
    },
    apart);
}

MBK_SLOT(layernorm);
MBK_SLOT(layernorm_backward);

} // namespace mbk
