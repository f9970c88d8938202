// SPDX-License-Identifier: MIT
//
// norms.cu: lengths of many arrays, wherever they lie, and arrays brought to new lengths: one launch for all, in any range. An
// array is cut into shares by its size alone.
#include "backend/cuda/mask.h"
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

MBK_WIDE_SLOT(norms, const mbi_arrays *, int64_t, int64_t);
MBK_WIDE_SLOT(rescale, const mbi_arrays *, int64_t);

} // namespace mbk
