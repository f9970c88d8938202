// SPDX-License-Identifier: MIT
//
// columns.h: sums down the columns of many rows, as gradients of biases are: one read of (rows, columns), 16 bytes at a time. A block
// takes 32 packs of neighbouring columns of a share of the rows, a warp every eighth of those; the next warp's sums are added in
// their order, and a second launch adds up the shares in theirs. Eight bf16 are added in float32, which holds such sums but for its
// last bits, everything else in float64. What comes out may be of another dtype.
//
// Bytes of rows of C elements of e bytes: C e, and 16 C for each share.
#ifndef MBK_CUDA_COLUMNS_H
#define MBK_CUDA_COLUMNS_H
#include "backend/cuda/math.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/rows.h"

namespace mbk {

template <class T> struct ColumnShares {
  static constexpr int THREADS = 256, WARPS = THREADS / WARP, LANES = lanes_of<T>(), AT_ONCE = 8;
  using Part = std::conditional_t<sizeof(T) == sizeof(bf16), float, double>;
  struct Shared {
    double sum[WARPS][LANES][WARP];
  };
  const T *x;
  double *lines; // (shares, columns)
  int64_t rows, columns, stride, shares, tiles;

  // The sum of up to AT_ONCE rows of every WARPS-th from r on, at column c.
  SIMT void add(double (&sum)[LANES], int64_t r, int64_t end, int64_t c) const {
    Lanes<T, LANES> v[AT_ONCE];
    Part part[LANES] = {};
SIMT_UNROLL
    for (int i = 0; i < AT_ONCE; i++) {
      v[i] = Lanes<T, LANES>{};
      if (r + i * WARPS < end) v[i] = load<LANES>(x + (r + i * WARPS) * stride + c, true);
    }
SIMT_UNROLL
    for (int i = 0; i < AT_ONCE; i++) {
SIMT_UNROLL
      for (int k = 0; k < LANES; k++) part[k] += (Part)(Wide<T>)v[i].at[k];
    }
SIMT_UNROLL
    for (int k = 0; k < LANES; k++) sum[k] += (double)part[k];
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t share = block.index / tiles, first = block.index % tiles * WARP * LANES, end = rows * (share + 1) / shares;
    block.each([&](int thread) {
      int warp = thread / WARP, lane = thread % WARP;
      int64_t c = first + lane * LANES;
      double sum[LANES] = {};
      if (c < columns)
        for (int64_t r = rows * share / shares + warp; r < end; r += AT_ONCE * WARPS) add(sum, r, end, c);
SIMT_UNROLL
      for (int k = 0; k < LANES; k++) shared.sum[warp][k][lane] = sum[k];
    });
    block.each([&](int thread) {
      for (int i = thread; i < WARP * LANES; i += THREADS) {
        int64_t c = first + i;
        if (c >= columns) continue;
        double sum = 0;
        for (int warp = 0; warp < WARPS; warp++) sum += shared.sum[warp][i % LANES][i / LANES];
        lines[share * columns + c] = sum;
      }
    });
  }
};

// Whether rows of `columns` neighbours, `stride` apart, can be read in packs, and are many enough.
template <class T> bool has_columns(const T *x, int64_t rows, int64_t columns, int64_t stride) {
  constexpr int64_t FEW_ROWS = 64;
  return rows >= FEW_ROWS && columns % lanes_of<T>() == 0 && stride % lanes_of<T>() == 0 && on_boundary(x);
}

template <class O, class T>
mb_status sum_columns(O *out, int accumulate, const T *x, int64_t rows, int64_t columns, int64_t stride, double alpha, const char *name) {
  using K = ColumnShares<T>;
  constexpr int64_t BLOCKS = 1056, LEAST_ROWS = K::AT_ONCE * K::WARPS; // 132 multiprocessors, 8 blocks each
  int64_t tiles = ceil_div(columns, WARP * K::LANES), wanted = ceil_div(BLOCKS, tiles), most = ceil_div(rows, LEAST_ROWS);
  int64_t shares = wanted < most ? wanted : most;
  double *lines;
  MB_TRY(scratch_of(&lines, 0, shares * columns));
  MB_TRY(launch(K{x, lines, rows, columns, stride, shares, tiles}, shares * tiles, name));
  return fold_lines(out, accumulate, lines, shares, columns, columns, alpha, name);
}

} // namespace mbk
#endif
