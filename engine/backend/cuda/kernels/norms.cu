// SPDX-License-Identifier: MIT
//
// norms.cu: lengths of many arrays, wherever they lie, and arrays brought to new lengths: one launch for all, in any range. An
// array is cut into shares by its size alone.
//
// And what clipping by norms takes: sums of squares in float64, and arrays times a number each, 16 bytes at a time. A sum is
// that of up to 1024 parts, which the last block to be done with one adds. One read of the arrays, and a read and a write where they
// are changed: 4 N and 8 N bytes in float32.
#include "backend/cuda/mask.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/small.h"
#include "backend/cuda/squares.h"
#include "backend/cuda/together.h"
#include "core/spectra.h"

namespace mbk {
namespace {

constexpr int THREADS = 256;
constexpr int64_t SHARE = 8192, MOST_SHARES = 64;

SIMT_BOTH int64_t shares_of(int64_t size) {
  int64_t shares = ceil_div(size, SHARE);
  return shares < MOST_SHARES ? shares : MOST_SHARES;
}

// What the sum of an array's shares says.
struct FoldSquares {
  const Squares *parts;
  const int64_t *size;
  int64_t shares;
  int is_f32;
  double *norm, *scale;
  int64_t *flags;
  SIMT void operator()(int64_t i) const {
    Squares all{0, 0, 0};
    for (int64_t share = 0; share < shares_of(size[i]); share++) all.add(parts[i * shares + share]);
    double power, length = all.length(&power);
    length /= power;
    if (!all.is_finite()) flags[i] = 0;
    else if (scale) scale[i] = mbi_scale_of(length, is_f32);
    if (norm && all.is_finite()) norm[i] = length;
  }
};

// parts (count, shares) of squares; `shares` is that of the largest array. The last share of an array to be there folds them.
template <class T> struct ShareSquares {
  static constexpr int THREADS = mbk::THREADS;
  struct Shared {
    ReduceRoom<double> room;
    int last;
  };
  Squares *parts;
  void *const *x;
  FoldSquares fold;
  unsigned *arrived; // (count)
  Mask mask;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t i = block.index / fold.shares, share = block.index % fold.shares;
    if (mask.skips(i)) return;
    int64_t n = fold.size[i], own = shares_of(n);
    if (share >= own) return;
    Squares all = squares_of(block, shared.room, (const T *)x[i], n * share / own, n * (share + 1) / own);
    block.each([&](int thread) {
      if (thread == 0) parts[block.index] = all;
    });
    if (!is_last(block, arrived + i, (unsigned)own, &shared.last)) return;
    block.each([&](int thread) {
      if (thread == 0) fold(i);
    });
  }
};

// x times target / norm, taken in two powers that float64 holds.
template <class T> struct Rescale {
  static constexpr int THREADS = mbk::THREADS;
  using Shared = Nothing;
  void *const *x;
  const int64_t *size;
  int64_t shares;
  const double *norm, *target, *gain;
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    int64_t i = block.index / shares, share = block.index % shares;
    if (gain[i] == 0) return;
    int64_t n = size[i], own = shares_of(n), first = n * share / own, last = n * (share + 1) / own;
    if (share >= own) return;
    double near_one = mbi_scale_of(norm[i], 0), ratio = target[i] / (norm[i] * near_one);
    T *to = (T *)x[i];
    block.each([&](int thread) {
      for (int64_t e = first + thread; e < last; e += THREADS) to[e] = (T)((double)to[e] * near_one * ratio);
    });
  }
};

// ----- sums of squares, products ----------------------------------------------------------------------------------

constexpr int64_t MOST_PARTS = 1024, PART = 16384;
SIMT_BOTH int64_t parts_of(int64_t size) { return size < MOST_PARTS * PART ? ceil_div(size, PART) : MOST_PARTS; }

// Part `part` of `parts` of n elements: [begin, end), whole packs but for the end of the last.
template <int N> struct PartOf {
  int64_t begin, end;
  SIMT PartOf(int64_t n, int64_t part, int64_t parts)
    : begin(n / N * part / parts * N), end(part == parts - 1 ? n : n / N * (part + 1) / parts * N) {}
};

// Arrays x (count), or one of them, with what a part is of.
template <class T> struct Parted {
  void *const *x;
  const int64_t *size;
  T *one; // where x is NULL
  int64_t one_size, parts;
  SIMT T *data(int64_t i) const { return x ? (T *)x[i] : one; }
  SIMT int64_t elements(int64_t i) const { return x ? size[i] : one_size; }
};

template <class T> struct SumSquares {
  static constexpr int THREADS = mbk::THREADS, N = lanes_of<T>();
  struct Shared {
    ReduceRoom<double> room;
    int last;
  };
  Parted<T> arrays;
  double *parts, *sum; // (count, arrays.parts), (count)
  unsigned *arrived;   // (count)
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t i = block.index / arrays.parts, part = block.index % arrays.parts, n = arrays.elements(i), own = parts_of(n);
    if (part >= own) return;
    PartOf<N> mine(n, part, own);
    const T *x = arrays.data(i) + mine.begin;
    bool wide = on_boundary(x);
    Private<double, THREADS> own_sum;
    block.each([&](int thread) {
      double all = 0;
      row_parts<N, THREADS>(thread, mine.end - mine.begin, [&](auto lanes, int64_t first) {
        auto v = load<decltype(lanes)::value>(x + first, wide);
SIMT_UNROLL
        for (int k = 0; k < decltype(lanes)::value; k++) all += (double)(Wide<T>)v.at[k] * (double)(Wide<T>)v.at[k];
      });
      own_sum[thread] = all;
    });
    double total = block.sum(own_sum, shared.room);
    block.each([&](int thread) {
      if (thread == 0) parts[block.index] = total;
    });
    if (!is_last(block, arrived + i, (unsigned)own, &shared.last)) return;
    const double *from = parts + i * arrays.parts;
    block.each([&](int thread) {
      double all = 0;
      for (int64_t k = thread; k < own; k += THREADS) all += from[k];
      own_sum[thread] = all;
    });
    total = block.sum(own_sum, shared.room);
    block.each([&](int thread) {
      if (thread == 0) sum[i] = total;
    });
  }
};

template <class T> struct Multiply {
  static constexpr int THREADS = mbk::THREADS, N = lanes_of<T>();
  using Shared = Nothing;
  Parted<T> arrays;
  const double *factor; // (count)
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    int64_t i = block.index / arrays.parts, part = block.index % arrays.parts;
    if (factor[i] == 1) return;
    int64_t n = arrays.elements(i), own = parts_of(n);
    if (part >= own) return;
    PartOf<N> mine(n, part, own);
    T *x = arrays.data(i) + mine.begin;
    bool wide = on_boundary(x);
    Wide<T> by = (Wide<T>)factor[i];
    block.each([&](int thread) {
      row_parts<N, THREADS>(thread, mine.end - mine.begin, [&](auto lanes, int64_t first) {
        auto v = load<decltype(lanes)::value>(x + first, wide);
SIMT_UNROLL
        for (int k = 0; k < decltype(lanes)::value; k++) v.at[k] = (T)(by * (Wide<T>)v.at[k] + 0);
        store(x + first, v, wide);
      });
    });
  }
};

} // namespace

template <class T> mb_status Kernels<T>::norms(const mbi_arrays *all, int64_t groups, int64_t wanted) {
  int64_t numbers = 0, count = 0;
  for (int64_t at = 0; at < groups; at++) numbers += all[at].count * shares_of(all[at].most), count += all[at].count;
  Squares *parts;
  unsigned *arrived;
  MB_TRY(scratch_of(&parts, 0, numbers));
  MB_TRY(arrivals(&arrived, count));
  Launches<ShareSquares<T>> squares("norms");
  for (const mbi_arrays *a = all; a < all + groups; a++) {
    int64_t shares = shares_of(a->most);
    FoldSquares fold{parts, a->size, shares, sizeof(T) == sizeof(float), a->norm, a->scale, a->flags};
    MB_TRY(squares.add(ShareSquares<T>{parts, a->x, fold, arrived, Mask(mbi_mask{a->flags, wanted})}, a->count * shares));
    parts += a->count * shares, arrived += a->count;
  }
  return squares.go();
}

template <class T> mb_status Kernels<T>::rescale(const mbi_arrays *all, int64_t groups) {
  Launches<Rescale<T>> launches("rescale");
  for (const mbi_arrays *a = all; a < all + groups; a++) {
    int64_t shares = shares_of(a->most);
    MB_TRY(launches.add(Rescale<T>{a->x, a->size, shares, a->norm, a->target, a->gain}, a->count * shares));
  }
  return launches.go();
}

template <class T> mb_status Kernels<T>::sum_squares(double *out, const void *x, int64_t count) {
  double *parts, sum;
  unsigned *arrived;
  int64_t blocks = parts_of(count);
  MB_TRY(scratch_of(&parts, 0, blocks + 1));
  MB_TRY(arrivals(&arrived, 1));
  Parted<T> one{nullptr, nullptr, (T *)x, count, blocks};
  MB_TRY(launch(SumSquares<T>{one, parts, parts + blocks, arrived}, blocks, "sum_squares"));
  MB_TRY(to_host(&sum, parts + blocks, sizeof sum));
  *out += sum;
  return MB_OK;
}

template <class T> mb_status Kernels<T>::sums_of_squares(const mbi_arrays *all, int64_t groups) {
  int64_t numbers = 0, count = 0;
  for (int64_t at = 0; at < groups; at++) numbers += all[at].count * parts_of(all[at].most), count += all[at].count;
  double *parts;
  unsigned *arrived;
  MB_TRY(scratch_of(&parts, 0, numbers));
  MB_TRY(arrivals(&arrived, count));
  Launches<SumSquares<T>> launches("sums_of_squares");
  for (const mbi_arrays *a = all; a < all + groups; a++) {
    int64_t most = parts_of(a->most);
    MB_TRY(launches.add(SumSquares<T>{{a->x, a->size, nullptr, 0, most}, parts, a->norm, arrived}, a->count * most));
    parts += a->count * most, arrived += a->count;
  }
  return launches.go();
}

template <class T> mb_status Kernels<T>::multiply_all(const mbi_arrays *all, int64_t groups) {
  Launches<Multiply<T>> launches("multiply_all");
  for (const mbi_arrays *a = all; a < all + groups; a++) {
    int64_t most = parts_of(a->most);
    MB_TRY(launches.add(Multiply<T>{{a->x, a->size, nullptr, 0, most}, a->gain}, a->count * most));
  }
  return launches.go();
}

MBK_SLOT(sum_squares);
MBK_WIDE_SLOT(sums_of_squares, const mbi_arrays *, int64_t);
MBK_WIDE_SLOT(multiply_all, const mbi_arrays *, int64_t);
MBK_WIDE_SLOT(norms, const mbi_arrays *, int64_t, int64_t);
MBK_WIDE_SLOT(rescale, const mbi_arrays *, int64_t);

} // namespace mbk
