// SPDX-License-Identifier: MIT
//
// iterate.cu: what iterations on batches of matrices need beside general products: products whose result is symmetric to
// the bit, normalisation to unit length, and a number on diagonals.
#include "backend/cuda/f16.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/squares.h"

namespace mbk {
namespace {

// ----- symmetric products -------------------------------------------------------------------------------------------

// C[j][i] = C[i][j] for j > i. A block copies the tile (row, column), column >= row, to its mirror image.
template <class T> struct Mirror {
  static constexpr int THREADS = 256, TILE = 32;
  struct Shared {
    T tile[TILE][TILE + 1];
  };
  T *c;
  int64_t n, ldc, step, pairs;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t pair = block.index % pairs, high = 0;
    T *matrix = c + block.index / pairs * step;
    while ((high + 1) * (high + 2) / 2 <= pair) high++;
    int64_t row = (pair - high * (high + 1) / 2) * TILE, column = high * TILE;
    block.each([&](int thread) {
      for (int e = thread; e < TILE * TILE; e += THREADS) {
        int64_t i = row + e / TILE, j = column + e % TILE;
        if (i < n && j < n) shared.tile[e / TILE][e % TILE] = matrix[i * ldc + j];
      }
    });
    block.each([&](int thread) {
      for (int e = thread; e < TILE * TILE; e += THREADS) {
        int64_t j = column + e / TILE, i = row + e % TILE;
        if (j < n && i < j) matrix[j * ldc + i] = shared.tile[e % TILE][e / TILE];
      }
    });
  }
};

// ----- unit length --------------------------------------------------------------------------------------------------

// Squares of a share of a row of `size` elements.
template <class T> struct RowSquares {
  static constexpr int THREADS = 256;
  struct Shared {
    ReduceRoom<double> room;
  };
  Squares *parts; // (count, shares)
  const T *x;
  int64_t size, shares;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t share = block.index % shares, first = size * share / shares, last = size * (share + 1) / shares;
    Squares all = squares_of(block, shared.room, x + block.index / shares * size, first, last);
    block.each([&](int thread) {
      if (thread == 0) parts[block.index] = all;
    });
  }
};

// The norm of a row, and the two factors that bring it to its new length.
struct Lengths {
  double *factors, *norms; // (count, 2); norms may be NULL
  const Squares *parts;
  int64_t shares, norm_stride;
  double factor, epsilon;
  SIMT void operator()(int64_t i) const {
    Squares all{0, 0, 0};
    for (int64_t share = 0; share < shares; share++) all.add(parts[i * shares + share]);
    double scale, length = all.length(&scale), total = length + epsilon * scale;
    if (norms) norms[i * norm_stride] = length / scale;
    factors[2 * i] = scale;
    factors[2 * i + 1] = total > 0 ? factor / total : 0;
  }
};

// A share of a row as To; shares begin at multiples of LANES.
template <class T, class To> struct ScaleRow {
  static constexpr int THREADS = 256, LANES = lanes_of<T, To>();
  using Shared = Nothing;
  To *y;
  const T *x;
  const double *factors;
  int64_t size, shares;
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    int64_t share = block.index % shares, row = block.index / shares, parts = ceil_div(size, LANES);
    int64_t first = parts * share / shares * LANES, last = parts * (share + 1) / shares * LANES;
    if (last > size) last = size;
    const T *from = x + row * size + first;
    To *to = y + row * size + first;
    double scale = factors[2 * row], by = factors[2 * row + 1];
    bool wide = on_boundary(from) && on_boundary(to);
    block.each([&](int thread) {
      row_parts<LANES, THREADS>(thread, last - first, [&](auto lanes, int64_t at) {
        constexpr int N = decltype(lanes)::value;
        Lanes<T, N> given = load<N>(from + at, wide);
        Lanes<To, N> made;
SIMT_UNROLL
        for (int k = 0; k < N; k++) made.at[k] = (To)((double)given.at[k] * scale * by);
        store(to + at, made, wide);
      });
    });
  }
};
template <class T, class To> mb_status scale_rows(void *y, const void *x, const double *factors, int64_t count, int64_t size) {
  constexpr int64_t SHARE = 8192;
  int64_t shares = ceil_div(size, SHARE);
  return launch(ScaleRow<T, To>{(To *)y, (const T *)x, factors, size, shares}, count * shares, "normalize");
}

// ----- diagonals ----------------------------------------------------------------------------------------------------

template <class T> struct AddToDiagonal {
  T *c;
  int64_t s;
  Wide<T> value;
  SIMT void operator()(int64_t i) const { c[i * s + i % s] = (T)((Wide<T>)c[i * s + i % s] + value); }
};
template <class T> mb_status add_value(void *c, int64_t count, int64_t s, double value) {
  return launch_elements(AddToDiagonal<T>{(T *)c, s, (Wide<T>)value}, count * s, "add_to_diagonal");
}

} // namespace

template <class T> mb_status Kernels<T>::gemm_symmetric(const mbi_gemm *g) {
  int64_t tiles = ceil_div(g->n, Mirror<T>::TILE), pairs = tiles * (tiles + 1) / 2;
  MB_TRY(Kernels<T>::gemm(g));
  return launch(Mirror<T>{(T *)g->c, g->n, g->ldc, g->stride_c, pairs}, g->batch * pairs, "gemm_symmetric");
}

template <class T>
mb_status Kernels<T>::normalize(void *y, mb_dtype dtype, double *norms, int64_t norm_stride, const void *x, int64_t count, int64_t size,
                                double factor, double epsilon) {
  constexpr int64_t SHARE = 8192, MOST_SHARES = 64;
  int64_t shares = ceil_div(size, SHARE);
  shares = shares < MOST_SHARES ? shares : MOST_SHARES;
  Squares *parts;
  double *factors;
  MB_TRY(scratch_of(&parts, 0, count * shares));
  MB_TRY(scratch_of(&factors, 1, 2 * count));
  MB_TRY(launch(RowSquares<T>{parts, (const T *)x, size, shares}, count * shares, "normalize"));
  MB_TRY(launch_elements(Lengths{factors, norms, parts, shares, norm_stride, factor, epsilon}, count, "normalize"));
  if ((int)dtype == MBI_F16) return scale_rows<T, f16>(y, x, factors, count, size);
  return dtype == MB_BF16 ? scale_rows<T, bf16>(y, x, factors, count, size) : scale_rows<T, T>(y, x, factors, count, size);
}

template <class T> mb_status Kernels<T>::add_to_diagonal(void *c, mb_dtype dtype, int64_t count, int64_t s, double value) {
  return (int)dtype == MBI_F16 ? add_value<f16>(c, count, s, value) : add_value<T>(c, count, s, value);
}

MBK_SLOT(gemm_symmetric);
MBK_SLOT(normalize);
MBK_SLOT(add_to_diagonal);

} // namespace mbk
