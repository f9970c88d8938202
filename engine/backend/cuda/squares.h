// SPDX-License-Identifier: MIT
//
// squares.h: a sum of squares that neither overflows nor loses small numbers: those of numbers beyond what float64 can square
// are kept apart, scaled by powers of two (Blue 1978; Anderson 2017).
#ifndef MBK_CUDA_SQUARES_H
#define MBK_CUDA_SQUARES_H
#include "backend/cuda/math.h"

namespace mbk {

constexpr double LARGE = 0x1p+486, SMALL = 0x1p-500, DOWN = 0x1p-538, UP = 0x1p+600;

struct Squares {
  double large, middle, small;
  SIMT void add(double x) {
    double size = abs_of(x);
    if (size > LARGE) large += x * DOWN * (x * DOWN);
    else if (size < SMALL) small += x * UP * (x * UP);
    else middle += x * x; // NaN too
  }
  SIMT void add(const Squares &other) { large += other.large, middle += other.middle, small += other.small; }
  SIMT bool is_finite() const { return (large + middle) * 0 == 0; }
  // The root, scaled by *scale.
  SIMT double length(double *scale) const {
    *scale = large > 0 ? DOWN : middle == 0 ? UP : 1;
    if (large > 0) return sqrt_of(large + middle * DOWN * DOWN);
    return sqrt_of(middle == 0 ? small : middle + small / UP / UP);
  }
};

// Of the elements [first, last) of x, by all threads of a block.
template <int THREADS, class T>
SIMT Squares squares_of(const Block<THREADS> &block, ReduceRoom<double> &room, const T *x, int64_t first, int64_t last) {
  Private<double, THREADS> large, middle, small;
  block.each([&](int thread) {
    Squares sum{0, 0, 0};
    for (int64_t i = first + thread; i < last; i += THREADS) sum.add((double)x[i]);
    large[thread] = sum.large, middle[thread] = sum.middle, small[thread] = sum.small;
  });
  return Squares{block.sum(large, room), block.sum(middle, room), block.sum(small, room)};
}

} // namespace mbk
#endif
