// SPDX-License-Identifier: MIT
//
// cross_entropy.cu: for each row x of V logits with target t, smoothing s, shift m = max x and z = sum exp(x - m),
//   loss = log z - (1 - s) (x[t] - m) - s mean(x - m),   dx[v] = g (exp(x[v] - m) / z - s / V - (1 - s) [v = t])
// A block a row, which reads its logits once: every thread keeps a maximum and a sum of its own, rescaled when the maximum
// rises (online softmax, Milakov and Gimelshein 2018). m and 1 / z are kept apart, not as one log-sum-exp, which would lose
// the digits of log z next to a large m.
//
// A row that is overwritten with its gradient is so by the same block, from its end to its beginning: what was read last is still in
// the L1 and L2 caches, so that of rows of V elements of e bytes 2 V e go through memory, where a forward and a backward move 3 V e.
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

// The weight of a row's loss, 1 / z and m, its target.
template <class W> struct GradientRow {
  W scale, inverse, shift;
  int64_t target, ignored, columns;
  double smoothing;
};

// N elements of a row's gradient; dx may be x.
template <int N, class T>
SIMT void gradient_part(const GradientRow<Wide<T>> &row, T *dx, const T *x, int accumulate, int64_t first, bool wide) {
  using W = Wide<T>;
  Lanes<T, N> v = load<N>(x + first, wide), before{};
  if (accumulate) before = load<N>(dx + first, wide);
SIMT_UNROLL
  for (int k = 0; k < N; k++) {
    W value = 0;
    if (row.target != row.ignored) {
      value = row.scale * row.inverse * exp_of((W)v.at[k] - row.shift) - row.scale * (W)(row.smoothing / (double)row.columns);
      if (first + k == row.target) value -= row.scale * (W)(1 - row.smoothing);
    }
    v.at[k] = (T)(accumulate ? (W)before.at[k] + value : value);
  }
  store(dx + first, v, wide);
}

template <class T, int THREADS_> struct Losses {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_, LANES = lanes_of<T>();
  struct Shared {
    ReduceRoom<Partial<W>> room;
  };
  double *loss;
  W *shift, *inverse;
  T *logits;
  int64_t stride;
  const W *weight; // of a row's loss; NULL: the logits stay
  const int32_t *targets;
  int64_t columns, ignored;
  double smoothing;
  W lowest;

  SIMT void overwrite(const Block<THREADS> &block, const Partial<W> &all) const {
    int64_t r = block.index;
    T *x = logits + r * stride;
    GradientRow<W> row{*weight, (W)(1 / all.z), all.most, targets[r], ignored, columns, smoothing};
    auto stretch = make_stretch(columns, (const T *)x);
    block.each([&](int thread) {
      for (int64_t i = stretch.packs + thread; i < stretch.parts(); i += THREADS) gradient_part<1>(row, x, (const T *)x, 0, stretch.first(i), false);
      for (int64_t i = stretch.packs - 1 - thread; i >= 0; i -= THREADS)
        gradient_part<lanes_of<T>()>(row, x, (const T *)x, 0, stretch.first(i), true);
    });
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t r = block.index;
    const T *x = logits + r * stride;
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
    if (weight) overwrite(block, all);
  }
};

// What each row's loss weighs, before the losses are known.
template <class T> struct Weight {
  static constexpr int THREADS = 1024;
  struct Shared {
    ReduceRoom<double> room;
  };
  T *weight;
  const int32_t *targets;
  int64_t rows, ignored;
  double scale;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<double, THREADS> counts;
    block.each([&](int thread) {
      double count = 0;
      for (int64_t r = thread; r < rows; r += THREADS) count += targets[r] != ignored;
      counts[thread] = count;
    });
    double count = block.sum(counts, shared.room);
    block.each([&](int thread) {
      if (thread == 0) *weight = (T)(scale / count);
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
  double scale;
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
      *out = (T)(scale * (is_mean ? sum / count : sum));
      *weight = (T)(is_mean ? scale / count : scale);
    });
  }
};

// A block a row. Elements do not need each other here, so that rows which begin off a boundary together have packs too.
template <class T, int THREADS_> struct Gradient {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_;
  using Shared = Nothing;
  T *dx;
  int64_t step; // from row to row of dx
  int accumulate;
  const W *dout, *stats;
  const T *x;
  int64_t stride;
  const int32_t *targets;
  int64_t rows, columns, ignored;
  double smoothing;
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    int64_t r = block.index;
    T *to = dx + r * step;
    const T *from = x + r * stride;
    GradientRow<W> row{*dout * stats[2 * rows], stats[rows + r], stats[r], targets[r], ignored, columns, smoothing};
    auto stretch = make_stretch(columns, from, (const T *)to);
    block.each([&](int thread) {
      for (int64_t i = thread; i < stretch.packs; i += THREADS) gradient_part<lanes_of<T>()>(row, to, from, accumulate, stretch.first(i), true);
      for (int64_t i = stretch.packs + thread; i < stretch.parts(); i += THREADS)
        gradient_part<1>(row, to, from, accumulate, stretch.first(i), false);
    });
  }
};

// Rows times a number of the device; nothing where it is 1.
template <class T, int THREADS_> struct Multiply {
  using W = Wide<T>;
  static constexpr int THREADS = THREADS_;
  using Shared = Nothing;
  T *x;
  int64_t stride, columns;
  const W *factor;
  template <int N> SIMT void many(T *row, W by, int64_t first, bool wide) const {
    Lanes<T, N> v = load<N>(row + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) v.at[k] = (T)((W)v.at[k] * by);
    store(row + first, v, wide);
  }
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    W by = *factor;
    if (by == W(1)) return;
    T *row = x + block.index * stride;
    auto stretch = make_stretch(columns, (const T *)row);
    block.each([&](int thread) {
      for (int64_t i = thread; i < stretch.packs; i += THREADS) many<lanes_of<T>()>(row, by, stretch.first(i), true);
      for (int64_t i = stretch.packs + thread; i < stretch.parts(); i += THREADS) many<1>(row, by, stretch.first(i), false);
    });
  }
};

template <class W> struct SetOne {
  W *to, value;
  SIMT void operator()(int64_t) const { *to = value; }
};

// f(Count<threads>()): rows that are read again stay in the caches if few are under way at once, so that a block has many threads.
template <class T, class F> mb_status with_loss_threads(int64_t columns, int overwrites, F f) {
  constexpr int64_t LONG = 8192;
  if (overwrites && columns >= LONG) return f(Count<512>());
  return with_row_threads<T>(columns, f);
}

} // namespace

template <class T>
mb_status Kernels<T>::cross_entropy(void *out, void *stats, double *losses, void *logits, int64_t stride, int overwrites,
                                    const int32_t *targets, int64_t rows, int64_t first, int64_t count, int64_t columns, double smoothing,
                                    int64_t ignored, int is_mean, double scale) {
  double *loss = losses;
  using W = Wide<T>;
  const char *name = "cross_entropy";
  W *shift = (W *)stats, *inverse = shift + rows, *weight = shift + 2 * rows;
  if (!loss) MB_TRY(scratch_of(&loss, 0, rows));
  if (overwrites && first == 0) { // later calls find the weight
    if (is_mean) MB_TRY(launch(Weight<W>{weight, targets, rows, ignored, scale}, 1, name));
    else MB_TRY(launch_elements(SetOne<W>{weight, (W)scale}, 1, name));
  }
  MB_TRY(with_loss_threads<T>(columns, overwrites, [&](auto threads) {
    return launch(Losses<T, decltype(threads)::value>{loss + first, shift + first, inverse + first, (T *)logits, stride,
                                                      overwrites ? weight : nullptr, targets + first, columns, ignored, smoothing,
                                                      sizeof(W) == sizeof(float) ? (W)-FLT_MAX : (W)-DBL_MAX},
                  count, name);
  }));
  if (first + count < rows) return MB_OK;
  return launch(Total<W>{(W *)out, weight, loss, targets, rows, ignored, is_mean, scale}, 1, name);
}

template <class T>
mb_status Kernels<T>::cross_entropy_backward(void *dlogits, int accumulate, const void *dout, const void *logits, int64_t stride,
                                             const void *stats, const int32_t *targets, int64_t rows, int64_t columns, double smoothing,
                                             int64_t ignored) {
  using W = Wide<T>;
  const char *name = "cross_entropy_backward";
  return with_row_threads<T>(columns, [&](auto threads) {
    constexpr int THREADS = decltype(threads)::value;
    if (!stats) return launch(Multiply<T, THREADS>{(T *)dlogits, stride, columns, (const W *)dout}, rows, name);
    return launch(Gradient<T, THREADS>{(T *)dlogits, dlogits == logits ? stride : columns, accumulate, (const W *)dout, (const W *)stats,
                                       (const T *)logits, stride, targets, rows, columns, ignored, smoothing},
                  rows, name);
  });
}

MBK_SLOT(cross_entropy);
MBK_SLOT(cross_entropy_backward);

} // namespace mbk
