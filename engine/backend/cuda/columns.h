// SPDX-License-Identifier: MIT
//
// columns.h: sums down the columns of many rows, as gradients of biases are: one read of (rows, columns), 16 bytes at a time. A block
// takes a tile of 32 packs of neighbouring columns of a share of the rows, a warp every eighth of those; the next warp's sums are added
// in their order, and the last blocks of a tile add up the shares in theirs (folds.h): one launch. Eight bf16 are added in float32,
// which holds such sums but for its last bits, everything else in float64. What comes out may be of another dtype.
//
// Bytes of rows of C elements of e bytes: C e, and 16 C for each share.
#ifndef MBK_CUDA_COLUMNS_H
#define MBK_CUDA_COLUMNS_H
#include "backend/cuda/folds.h"
#include "backend/cuda/math.h"
#include "backend/cuda/packs.h"

namespace mbk {

template <class O, class T> struct ColumnShares {
  static constexpr int THREADS = 256, WARPS = THREADS / WARP, LANES = lanes_of<T>(), AT_ONCE = 8;
  using Part = std::conditional_t<sizeof(T) == sizeof(bf16), float, double>;
  struct Shared {
    double sum[WARPS][LANES][WARP];
    int last;
  };
  const T *x;
  LastFold<O, double> fold; // lines (shares, columns)
  int64_t rows, columns, stride, tiles;

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
    constexpr int64_t WIDTH = WARP * LANES;
    int64_t share = block.index / tiles, tile = block.index % tiles, first = tile * WIDTH, end = rows * (share + 1) / fold.shares;
    block.each([&](int thread) {
      int warp = thread / WARP, lane = thread % WARP;
      int64_t c = first + lane * LANES;
      double sum[LANES] = {};
      if (c < columns)
        for (int64_t r = rows * share / fold.shares + warp; r < end; r += AT_ONCE * WARPS) add(sum, r, end, c);
SIMT_UNROLL
      for (int k = 0; k < LANES; k++) shared.sum[warp][k][lane] = sum[k];
    });
    block.each([&](int thread) {
      for (int i = thread; i < WIDTH; i += THREADS) {
        int64_t c = first + i;
        if (c >= columns) continue;
        double sum = 0;
        for (int warp = 0; warp < WARPS; warp++) sum += shared.sum[warp][i % LANES][i / LANES];
        fold.lines[share * columns + c] = sum;
      }
    });
    fold.template run<1>(block, &shared.last, tile, share, first, first + WIDTH < columns ? first + WIDTH : columns);
  }
};

// Whether rows of `columns` neighbours, `stride` apart, can be read in packs, and are many enough.
template <class T> bool has_columns(const T *x, int64_t rows, int64_t columns, int64_t stride) {
  constexpr int64_t FEW_ROWS = 64;
  return rows >= FEW_ROWS && columns % lanes_of<T>() == 0 && stride % lanes_of<T>() == 0 && on_boundary(x);
}

template <class O, class T>
mb_status sum_columns(O *out, int accumulate, const T *x, int64_t rows, int64_t columns, int64_t stride, double alpha, const char *name) {
  using K = ColumnShares<O, T>;
  constexpr int64_t BLOCKS = 1056, LEAST_ROWS = K::AT_ONCE * K::WARPS; // 132 multiprocessors, 8 blocks each
  int64_t tiles = ceil_div(columns, WARP * K::LANES), wanted = ceil_div(BLOCKS, tiles), most = ceil_div(rows, LEAST_ROWS);
  int64_t shares = wanted < most ? wanted : most;
  LastFold<O, double> fold;
  MB_TRY(make_fold(&fold, one_gradient(out, accumulate, columns, alpha), shares, columns, tiles));
  return launch(K{x, fold, rows, columns, stride, tiles}, shares * tiles, name);
}

} // namespace mbk
#endif
