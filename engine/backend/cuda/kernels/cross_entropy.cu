// SPDX-License-Identifier: MIT
//
// cross_entropy.cu: for each row x of V logits with target t, smoothing s, shift m = max x and z = sum exp(x - m),
//   loss = log z - (1 - s) (x[t] - m) - s mean(x - m),   dx[v] = g (exp(x[v] - m) / z - s / V - (1 - s) [v = t])
// A block a row, which reads its logits once: every thread keeps a maximum and a sum of its own, rescaled when the maximum
// rises (online softmax, Milakov and Gimelshein 2018). m and 1 / z are kept apart, not as one log-sum-exp, which would lose
// the digits of log z next to a large m.
#include <cfloat>

#include "backend/cuda/rows.h"

namespace mbk {
namespace {

// A maximum, the sum of exp(x - maximum), and the plain sum.
template <class T> struct Partial {
  T most;
  double z, total;
};
#ifdef __CUDACC__
template <class T> SIMT Partial<T> exchange(Partial<T> x, int step) {
  return {__shfl_xor_sync(0xffffffffu, x.most, step), __shfl_xor_sync(0xffffffffu, x.z, step), __shfl_xor_sync(0xffffffffu, x.total, step)};
}
#endif
struct Join {
  template <class T> SIMT Partial<T> operator()(Partial<T> a, Partial<T> b) const {
    if (a.most < b.most) {
      Partial<T> c = a;
      a = b, b = c;
    }
    return {a.most, a.z + b.z * (double)exp_of(b.most - a.most), a.total + b.total};
  }
};

template <class T, int THREADS_> struct Losses {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_, LANES = lanes_of<T>();
  struct Shared {
    ReduceRoom<Partial<W>> room;
  };
  double *loss;
  W *shift, *inverse;
  const T *logits;
  const int32_t *targets;
  int64_t columns, ignored;
  double smoothing;
  W lowest;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t r = block.index;
    const T *x = logits + r * columns;
    bool wide = on_boundary(x);
    Private<Partial<W>, THREADS> mine;
    block.each([&](int thread) {
      Partial<W> p{lowest, 0, 0};
      W z = 0, total = 0;
      row_parts<LANES, THREADS>(thread, columns, [&](auto lanes, int64_t v) {
        auto part = load<decltype(lanes)::value>(x + v, wide);
        W most = p.most;
SIMT_UNROLL
        for (int k = 0; k < decltype(lanes)::value; k++) most = (W)part.at[k] > most ? (W)part.at[k] : most;
        if (most > p.most) z *= exp_of(p.most - most), p.most = most;
SIMT_UNROLL
        for (int k = 0; k < decltype(lanes)::value; k++) {
          z += exp_of((W)part.at[k] - most);
          total += (W)part.at[k];
        }
      });
      p.z = (double)z, p.total = (double)total;
      mine[thread] = p;
    });
    Partial<W> all = block.combine(mine, Join(), shared.room);
    block.each([&](int thread) {
      if (thread != 0) return;
      bool counts = targets[r] != ignored;
      double m = (double)all.most;
      shift[r] = counts ? all.most : W(0);
      inverse[r] = counts ? (W)(1 / all.z) : W(0);
      loss[r] = 0;
      if (counts) loss[r] = log_of(all.z) - (1 - smoothing) * ((double)(W)x[targets[r]] - m);
      if (counts && smoothing > 0) loss[r] -= smoothing * (all.total / (double)columns - m);
    });
  }
};

template <class T> struct Total {
  static constexpr int THREADS = 1024;
  struct Shared {
    ReduceRoom<double> room;
  };
  T *out, *weight;
  const double *loss;
  const int32_t *targets;
  int64_t rows, ignored;
  int is_mean;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<double, THREADS> sums, counts;
    block.each([&](int thread) {
      double sum = 0, count = 0;
      for (int64_t r = thread; r < rows; r += THREADS) sum += loss[r], count += targets[r] != ignored;
      sums[thread] = sum, counts[thread] = count;
    });
    double sum = block.sum(sums, shared.room), count = block.sum(counts, shared.room);
    block.each([&](int thread) {
      if (thread != 0) return;
      *out = (T)(is_mean ? sum / count : sum);
      *weight = (T)(is_mean ? 1 / count : 1);
    });
  }
};

// A block a row. Elements do not need each other here, so that rows which begin off a boundary together have packs too.
template <class T, int THREADS_> struct Gradient {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_;
  using Shared = Nothing;
  T *dx;
  int accumulate;
  const W *dout, *stats;
  const T *x;
  const int32_t *targets;
  int64_t rows, columns, ignored;
  double smoothing;
  // The weight of the row's loss, 1 / z and m, its target.
  struct Row {
    W scale, inverse, shift;
    int64_t target;
  };
  template <int N> SIMT void many(const Row &row, int64_t r, int64_t first, bool wide) const {
    Lanes<T, N> v = load<N>(x + r * columns + first, wide), before{};
    if (accumulate) before = load<N>(dx + r * columns + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) {
      W value = 0;
      if (row.target != ignored) {
        value = row.scale * row.inverse * exp_of((W)v.at[k] - row.shift) - row.scale * (W)(smoothing / (double)columns);
        if (first + k == row.target) value -= row.scale * (W)(1 - smoothing);
      }
      v.at[k] = (T)(accumulate ? (W)before.at[k] + value : value);
    }
    store(dx + r * columns + first, v, wide);
  }
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    int64_t r = block.index;
    Row row{*dout * stats[2 * rows], stats[rows + r], stats[r], targets[r]};
    auto stretch = make_stretch(columns, x + r * columns, (const T *)dx + r * columns);
    block.each([&](int thread) {
      for (int64_t i = thread; i < stretch.packs; i += THREADS) many<lanes_of<T>()>(row, r, stretch.first(i), true);
      for (int64_t i = stretch.packs + thread; i < stretch.parts(); i += THREADS) many<1>(row, r, stretch.first(i), false);
    });
  }
};

} // namespace

template <class T>
mb_status Kernels<T>::cross_entropy(void *out, void *stats, const void *logits, const int32_t *targets, int64_t rows, int64_t columns,
                                    double smoothing, int64_t ignored, int is_mean) {
  double *loss;
  using W = Wide<T>;
  W *shift = (W *)stats;
  MB_TRY(scratch_of(&loss, 0, rows));
  MB_TRY(with_row_threads<T>(columns, [&](auto threads) {
    return launch(Losses<T, decltype(threads)::value>{loss, shift, shift + rows, (const T *)logits, targets, columns, ignored, smoothing,
                                                      sizeof(W) == sizeof(float) ? (W)-FLT_MAX : (W)-DBL_MAX},
                  rows, "cross_entropy");
  }));
  return launch(Total<W>{(W *)out, shift + 2 * rows, loss, targets, rows, ignored, is_mean}, 1, "cross_entropy");
}

template <class T>
mb_status Kernels<T>::cross_entropy_backward(void *dlogits, int accumulate, const void *dout, const void *logits, const void *stats,
                                             const int32_t *targets, int64_t rows, int64_t columns, double smoothing, int64_t ignored) {
  using W = Wide<T>;
  return with_row_threads<T>(columns, [&](auto threads) {
    return launch(Gradient<T, decltype(threads)::value>{(T *)dlogits, accumulate, (const W *)dout, (const W *)stats, (const T *)logits, targets,
                                                        rows, columns, ignored, smoothing},
                  rows, "cross_entropy_backward");
  });
}

MBK_SLOT(cross_entropy);
MBK_SLOT(cross_entropy_backward);

} // namespace mbk
