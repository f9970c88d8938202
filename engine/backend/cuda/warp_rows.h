// SPDX-License-Identifier: MIT
//
// warp_rows.h: layer and RMS norms of rows that fit into a warp's registers: whole packs, at most WARP_ROW_ELEMENTS of them a lane.
// Every number is read once and written once; sums go by shuffles, so that warps do not wait for each other. With xhat =
// (x - mean) rstd, mean being 0 for the RMS norm, and g = dy weight,
//   y = xhat weight + bias,   dx = rstd (g - mean(g) - xhat mean(g xhat)),   dweight = sum of dy xhat,   dbias = sum of dy
// where mean(g) is 0 too for the RMS norm. A block's warps take the rows of a share in turn and keep their parts of dweight and
// dbias in registers; they become a line of sums, and the last blocks add up the lines (folds.h).
//
// Bytes of rows of C elements of e bytes: forward 2 C e, with a sum 4 C e; backward 3 C e, or 4 C e where dx holds numbers already.
#ifndef MBK_CUDA_WARP_ROWS_H
#define MBK_CUDA_WARP_ROWS_H
#include "backend/cuda/rows.h"

namespace mbk {

template <class T> constexpr int WARP_ROW_ELEMENTS = sizeof(T) == 8 ? 8 : 32;

// f(Count<packs of a lane>()) where rows fit, else g().
template <class T, class F, class G> mb_status with_warp_rows(int64_t columns, F f, G g) {
  constexpr int LANES = lanes_of<T>(), MOST = WARP_ROW_ELEMENTS<T> / LANES;
  int64_t packs = ceil_div(columns, WARP * LANES);
  if (columns % LANES != 0 || packs > MOST) return g();
  if (packs == 1) return f(Count<1>());
  if (packs == 2) return f(Count<2>());
  if (packs == 3) return f(Count<3>());
  if constexpr (MOST > 4) {
    if (packs > 6) return f(Count<8>());
    if (packs > 4) return f(Count<6>());
  }
  return f(Count<4>());
}

// A pack as the words it was read as: bf16 in half as many registers as numbers take. set_aside makes it so again, where a compiler
// would rather keep the numbers.
template <class T, int N> struct Held {
  uint32_t word[N * sizeof(T) / sizeof(uint32_t)];
  SIMT void operator=(const Lanes<T, N> &x) { memcpy(word, &x, sizeof word); }
  SIMT Lanes<T, N> lanes() const {
    Lanes<T, N> x;
    memcpy(&x, word, sizeof word);
    return x;
  }
  SIMT void set_aside() {
#ifdef __CUDA_ARCH__
SIMT_UNROLL
    for (uint32_t &w : word) asm volatile("" : "+r"(w));
#endif
  }
};

// out = x + y, for rows that do not fit.
template <class T> mb_status add_rows(T *out, const T *x, const T *y, int64_t count) {
  mbi_view to{out, 1, {count}, {1}}, a{const_cast<T *>(x), 1, {count}, {1}}, b{const_cast<T *>(y), 1, {count}, {1}};
  return Kernels<T>::binary(MBI_ADD, &to, &a, &b);
}

template <class T, int PACKS, bool CENTRED> struct WarpForward {
  using W = Wide<T>;
  static constexpr int THREADS = 128, WARPS = THREADS / WARP, LANES = lanes_of<T>();
  using Shared = Nothing;
  T *y;
  W *means, *rstds;
  T *sum;              // x + added, which is normed then
  const T *x, *added;
  const T *weight, *bias;
  int64_t rows, columns;
  double epsilon;
  struct Row {
    W at[PACKS * LANES];
  };

  SIMT bool is_wide() const {
    return on_boundary(x) && on_boundary(y) && on_boundary(added) && on_boundary(sum) && on_boundary(weight) && on_boundary(bias);
  }

  SIMT Lanes<T, LANES> take(int64_t at, bool wide) const {
    Lanes<T, LANES> v = load<LANES>(x + at, wide);
    if (!added) return v;
    Lanes<T, LANES> other = load<LANES>(added + at, wide);
SIMT_UNROLL
    for (int k = 0; k < LANES; k++) v.at[k] = (T)((W)v.at[k] + (W)other.at[k]);
    store(sum + at, v, wide);
    return v;
  }

  SIMT void run(const Block<THREADS> &block, Shared &) const {
    bool wide = is_wide();
    block.warps([&](const Warp &warp) {
      int64_t r = block.index * WARPS + warp.index;
      if (r >= rows) return;
      PerLane<Row> row;
      PerLane<W> total;
      W mean = 0;
      warp.each([&](int lane) {
        W s = 0;
SIMT_UNROLL
        for (int p = 0; p < PACKS; p++) {
          int64_t c = ((int64_t)p * WARP + lane) * LANES;
          Lanes<T, LANES> v{};
          if (c < columns) v = take(r * columns + c, wide);
SIMT_UNROLL
          for (int k = 0; k < LANES; k++) s += row[lane].at[p * LANES + k] = (W)v.at[k];
        }
        total[lane] = s;
      });
      if constexpr (CENTRED) {
        combine_lanes(total, Add());
        warp.each([&](int lane) { mean = total[lane] / (W)columns; });
      }
      warp.each([&](int lane) {
        W s = 0;
SIMT_UNROLL
        for (int p = 0; p < PACKS; p++) {
          if (((int64_t)p * WARP + lane) * LANES >= columns) continue;
SIMT_UNROLL
          for (int k = 0; k < LANES; k++) {
            W v = row[lane].at[p * LANES + k] -= mean;
            s += v * v;
          }
        }
        total[lane] = s;
      });
      combine_lanes(total, Add());
      warp.each([&](int lane) {
        W rstd = W(1) / sqrt_of(total[lane] / (W)columns + (W)epsilon);
SIMT_UNROLL
        for (int p = 0; p < PACKS; p++) {
          int64_t c = ((int64_t)p * WARP + lane) * LANES;
          if (c >= columns) continue;
          Lanes<T, LANES> w = load_or<LANES>(weight, c, wide, 1.0f), b = load_or<LANES>(bias, c, wide, 0.0f);
SIMT_UNROLL
          for (int k = 0; k < LANES; k++) w.at[k] = (T)(row[lane].at[p * LANES + k] * rstd * (W)w.at[k] + (W)b.at[k]);
          store(y + r * columns + c, w, wide);
        }
        if (lane == 0 && means) means[r] = mean;
        if (lane == 0 && rstds) rstds[r] = rstd;
      });
    });
  }
};

// A block a share of the rows; line s of `lines` (shares, 2, C) becomes what share s adds to dweight and dbias.
template <class T, int PACKS, bool CENTRED> struct WarpBackward {
  using W = Wide<T>;
  // With 24 elements a lane a thread takes up to 170 registers, which 384 threads have, but not twice 256.
  static constexpr int LANES = lanes_of<T>(), HELD = PACKS * LANES, THREADS = HELD > 16 && HELD <= 24 ? 384 : 256, WARPS = THREADS / WARP;
  static constexpr int RESIDENT = HELD <= 16 && sizeof(T) <= 4 ? 2 : 1;
  struct Shared {
    W part[WARPS][2 * LANES][WARP];
    int last;
  };
  T *dx;
  int accumulate;
  LastFold<W, W> fold; // without lines if there is nothing to add up
  const T *dy, *x;
  const W *means, *rstds;
  const T *weight;
  int64_t rows, columns;
  struct Sums {
    W weight[PACKS * LANES], bias[PACKS * LANES];
  };
  struct Row {
    Held<T, LANES> dy[PACKS], x[PACKS], before[PACKS];
  };

  SIMT void one_row(const Warp &warp, PerLane<Sums> &sums, int64_t r, bool wide) const {
    PerLane<Row> row;
    PerLane<W> sum_g, sum_gx;
    W mean = CENTRED ? means[r] : W(0), rstd = rstds[r];
    warp.each([&](int lane) {
      Row &v = row[lane];
SIMT_UNROLL
      for (int p = 0; p < PACKS; p++) { // all loads before the first use
        int64_t c = ((int64_t)p * WARP + lane) * LANES;
        if (c >= columns) continue;
        v.dy[p] = load<LANES>(dy + r * columns + c, wide), v.x[p] = load<LANES>(x + r * columns + c, wide);
        if (accumulate) v.before[p] = load<LANES>(dx + r * columns + c, wide);
      }
      W g_sum = 0, gx_sum = 0;
SIMT_UNROLL
      for (int p = 0; p < PACKS; p++) {
        int64_t c = ((int64_t)p * WARP + lane) * LANES;
        if (c >= columns) continue;
        Lanes<T, LANES> w = load_or<LANES>(weight, c, wide, 1.0f), dys = v.dy[p].lanes(), xs = v.x[p].lanes();
SIMT_UNROLL
        for (int k = 0; k < LANES; k++) {
          W d = (W)dys.at[k], g = d * (W)w.at[k], xhat = ((W)xs.at[k] - mean) * rstd;
          g_sum += g, gx_sum += g * xhat;
          sums[lane].weight[p * LANES + k] += d * xhat, sums[lane].bias[p * LANES + k] += d;
        }
        v.dy[p].set_aside(), v.x[p].set_aside(), v.before[p].set_aside();
      }
      sum_g[lane] = g_sum, sum_gx[lane] = gx_sum;
    });
    if constexpr (CENTRED) combine_lanes(sum_g, Add());
    combine_lanes(sum_gx, Add());
    warp.each([&](int lane) {
      Row &v = row[lane];
      W mean_g = CENTRED ? sum_g[lane] / (W)columns : W(0), mean_gx = sum_gx[lane] / (W)columns;
SIMT_UNROLL
      for (int p = 0; p < PACKS; p++) {
        int64_t c = ((int64_t)p * WARP + lane) * LANES;
        if (c >= columns) continue;
        Lanes<T, LANES> w = load_or<LANES>(weight, c, wide, 1.0f), dys = v.dy[p].lanes(), xs = v.x[p].lanes(), before = v.before[p].lanes();
SIMT_UNROLL
        for (int k = 0; k < LANES; k++) {
          W value = rstd * ((W)dys.at[k] * (W)w.at[k] - mean_g - ((W)xs.at[k] - mean) * rstd * mean_gx);
          w.at[k] = (T)(accumulate ? (W)before.at[k] + value : value);
        }
        store(dx + r * columns + c, w, wide);
      }
    });
  }

  // The sums of all warps, warp after warp.
  SIMT void write_line(const Block<THREADS> &block, Shared &shared, PerWarp<PerLane<Sums>, WARPS> &sums) const {
    W *line = fold.lines + block.index * 2 * columns;
SIMT_UNROLL
    for (int p = 0; p < PACKS; p++) {
      block.warps([&](const Warp &warp) {
        warp.each([&](int lane) {
          const Sums &mine = sums[warp.index][lane];
SIMT_UNROLL
          for (int k = 0; k < LANES; k++) {
            shared.part[warp.index][k][lane] = mine.weight[p * LANES + k];
            shared.part[warp.index][LANES + k][lane] = mine.bias[p * LANES + k];
          }
        });
      });
      block.each([&](int thread) {
        for (int i = thread; i < 2 * LANES * WARP; i += THREADS) {
          int k = i / WARP, lane = i % WARP;
          int64_t c = ((int64_t)p * WARP + lane) * LANES + k % LANES;
          if (c >= columns) continue;
          W sum = 0;
SIMT_UNROLL
          for (int warp = 0; warp < WARPS; warp++) sum += shared.part[warp][k][lane];
          line[(k < LANES ? 0 : columns) + c] = sum;
        }
      });
    }
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    bool wide = on_boundary(dy) && on_boundary(x) && on_boundary(dx) && on_boundary(weight);
    PerWarp<PerLane<Sums>, WARPS> sums;
    block.warps([&](const Warp &warp) {
      PerLane<Sums> &mine = sums[warp.index];
      warp.each([&](int lane) {
SIMT_UNROLL
        for (int i = 0; i < PACKS * LANES; i++) mine[lane].weight[i] = mine[lane].bias[i] = 0;
      });
      int64_t end = rows * (block.index + 1) / block.count;
      for (int64_t r = rows * block.index / block.count + warp.index; r < end; r += WARPS) one_row(warp, mine, r, wide);
    });
    if (!fold.lines) return;
    write_line(block, shared, sums);
    fold.template run<PACK_BYTES / sizeof(W)>(block, &shared.last, 0, block.index, 0, fold.to.all);
  }
};

// dx, and dweight and dbias where they are not NULL, in one pass over the rows.
template <bool CENTRED, class T, int PACKS>
mb_status launch_warp_backward(Count<PACKS>, T *dx, int accumulate_x, Wide<T> *dweight, int accumulate_weight, Wide<T> *dbias,
                               int accumulate_bias, const T *dy, const T *x, const Wide<T> *means, const Wide<T> *rstds, const T *weight,
                               int64_t rows, int64_t columns, const char *name) {
  int64_t shares = row_shares(rows);
  LastFold<Wide<T>, Wide<T>> fold{};
  auto to = two_gradients(dweight, accumulate_weight, dbias, accumulate_bias, columns);
  if (dweight || dbias) MB_TRY(make_fold(&fold, to, shares, 2 * columns, 1));
  return launch(WarpBackward<T, PACKS, CENTRED>{dx, accumulate_x, fold, dy, x, means, rstds, weight, rows, columns}, shares, name);
}

} // namespace mbk
#endif
