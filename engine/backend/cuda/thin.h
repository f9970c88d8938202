// SPDX-License-Identifier: MIT
//
// thin.h: products of many large matrices with a few rows each. They are bound by memory. All matrices of all groups are one launch,
// wherever they lie, and are cut by their shape alone, so that bits depend on nothing else. Long sums are cut in slices, and the
// last block of a tile to arrive adds them up.
#ifndef MBK_CUDA_THIN_H
#define MBK_CUDA_THIN_H
#include <type_traits>

#include "backend/cuda/mask.h"
#include "backend/cuda/math.h"
#include "backend/cuda/together.h"

namespace mbk {

template <class S, int ROWS> struct Sums {
  S of[ROWS];
};

// How many of the q rows of a matrix count: all, or, of (count) numbers, the first few; none of what the mask passes over.
struct Rows {
  int64_t q;
  const int64_t *first;
  Mask mask;
  SIMT int64_t of(int64_t matrix) const { return mask.skips(matrix) ? 0 : first ? first[matrix] : q; }
};

// Shares of y (count, q, n) = thin (count, q, k) (scale G)^T, or without the transposition; G's rows are ldg apart. A block
// makes a tile of ROWS rows and THREADS columns from a slice of k, and a thread makes one column of it.
template <class T, bool TRANSPOSED> struct Product {
  static constexpr int THREADS = 128, ROWS = 16, COLUMNS = THREADS, DEPTH = 32, SLICE = 4 * DEPTH;
  using Sum = std::conditional_t<TRANSPOSED, T, double>; // of DEPTH products
  static constexpr bool IS_WIDE = std::is_same_v<Sum, double>;
  struct Shared {
    alignas(16) Sum a[DEPTH][ROWS];
    T b[DEPTH][THREADS + 1]; // odd rows: written along columns or rows, a warp's numbers go to different banks
    int last;
  };
  T *out;
  T *parts;           // (count, slices, q, n), or out where there is one slice
  unsigned *arrived;  // (count, strips, row_tiles)
  const T *thin;
  void *const *g;
  const double *scale; // or NULL: 1
  Rows which;
  int64_t n, k, ldg, slices, row_tiles, strips;

  // DEPTH numbers, of which `depth` are there, of ROWS rows of a and THREADS columns of b; zeros beyond what there is.
  SIMT void load(Shared &shared, const T *a, T factor, const T *b, int rows, int width, int depth, int thread) const {
    for (int e = thread; e < DEPTH * ROWS; e += THREADS) {
      int row = e / DEPTH, d = e % DEPTH;
      shared.a[d][row] = row < rows && d < depth ? (Sum)(a[row * k + d] * factor) : Sum(0);
    }
    int d = TRANSPOSED ? thread % DEPTH : 0, column = TRANSPOSED ? thread / DEPTH : thread;
    const T *from = b + (TRANSPOSED ? column * ldg + d : column);
SIMT_UNROLL_8
    for (int step = 0; step < DEPTH; step++) {
      shared.b[d][column] = column < width && d < depth ? *from : T(0);
      if (TRANSPOSED) column += THREADS / DEPTH, from += THREADS / DEPTH * ldg;
      else d++, from += ldg;
    }
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t row = block.index % row_tiles * ROWS, part = block.index / row_tiles, column = part % strips * THREADS;
    int64_t slice = part / strips % slices, matrix = part / (strips * slices), have = which.of(matrix) - row;
    if (have <= 0) return;
    int64_t first = k * slice / slices, last = k * (slice + 1) / slices, q = which.q;
    const T *a = thin + (matrix * q + row) * k + first;
    const T *b = (const T *)g[matrix] + (TRANSPOSED ? column * ldg + first : first * ldg + column);
    T factor = scale ? (T)scale[matrix] : T(1);
    int length = (int)(last - first), rows = have < ROWS ? (int)have : ROWS;
    int width = n - column < THREADS ? (int)(n - column) : THREADS;
    Private<Sums<double, ROWS>, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) sums[thread].of[r] = 0;
    });
    for (int start = 0; start < length; start += DEPTH) {
      block.each([&](int thread) {
        load(shared, a + start, factor, b + (TRANSPOSED ? start : start * ldg), rows, width, length - start, thread);
      });
      block.each([&](int thread) {
        Sums<double, ROWS> &all = sums[thread];
        Sums<Sum, ROWS> few{}; // is not used where Sum is float64
SIMT_UNROLL_8
        for (int d = 0; d < DEPTH; d++) {
          Sum number = shared.b[d][thread];
SIMT_UNROLL
          for (int r = 0; r < ROWS; r++) {
            if constexpr (IS_WIDE) all.of[r] += shared.a[d][r] * number;
            else few.of[r] += shared.a[d][r] * number;
          }
        }
SIMT_UNROLL
        for (int r = 0; r < ROWS && !IS_WIDE; r++) all.of[r] += (double)few.of[r];
      });
    }
    block.each([&](int thread) {
      T *to = parts + ((matrix * slices + slice) * q + row) * n + column + thread;
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++)
        if (r < rows && thread < width) to[r * n] = (T)sums[thread].of[r];
    });
    if (slices == 1 || !is_last(block, arrived + (matrix * strips + part % strips) * row_tiles + row / ROWS, (unsigned)slices, &shared.last))
      return;
    block.each([&](int thread) {
      const T *from = parts + (matrix * slices * q + row) * n + column + thread;
      for (int r = 0; r < rows && thread < width; r++) {
        double sum = 0;
        for (int64_t s = 0; s < slices; s++) sum += (double)from[(s * q + r) * n];
        out[(matrix * q + row + r) * n + column + thread] = (T)sum;
      }
    });
  }
};

// One group's product.
template <class T> struct Thin {
  T *out;
  const T *thin;
  void *const *g;
  const double *scale; // or NULL: 1
  Rows which;
  int64_t m, n, count;
};

// out (count, q, m) = thin (count, q, n) (scale G)^T of matrices (m, n), or not TRANSPOSED out (count, q, n) = thin (count, q, m) scale G.
// Shares of long sums lie in scratch `slot`.
// P is the kernel.
template <class P, class T, bool TRANSPOSED> mb_status multiply_by(const Thin<T> *all, int64_t groups, int slot, const char *name) {
  constexpr int64_t MOST_SLICES = 64;
  auto slices_of = [&](const Thin<T> &t) {
    int64_t slices = ceil_div(TRANSPOSED ? t.n : t.m, P::SLICE);
    return slices < MOST_SLICES ? slices : MOST_SLICES;
  };
  int64_t numbers = 0, tiles = 0;
  for (int64_t at = 0; at < groups; at++) {
    const Thin<T> &t = all[at];
    int64_t columns = TRANSPOSED ? t.m : t.n, slices = slices_of(t);
    numbers += slices > 1 ? t.count * slices * t.which.q * columns : 0;
    tiles += t.count * ceil_div(columns, P::COLUMNS) * ceil_div(t.which.q, P::ROWS);
  }
  T *parts = nullptr;
  unsigned *arrived;
  if (numbers > 0) MB_TRY(scratch_of(&parts, slot, numbers));
  MB_TRY(arrivals(&arrived, tiles));
  Launches<P> launches(name);
  for (int64_t at = 0; at < groups; at++) {
    const Thin<T> &t = all[at];
    int64_t columns = TRANSPOSED ? t.m : t.n, k = TRANSPOSED ? t.n : t.m, slices = slices_of(t);
    int64_t row_tiles = ceil_div(t.which.q, P::ROWS), strips = ceil_div(columns, P::COLUMNS);
    P product{t.out, slices > 1 ? parts : t.out, arrived, t.thin, t.g, t.scale, t.which, columns, k, t.n, slices, row_tiles, strips};
    MB_TRY(launches.add(product, t.count * slices * row_tiles * strips));
    if (slices > 1) parts += t.count * slices * t.which.q * columns;
    arrived += t.count * strips * row_tiles;
  }
  return launches.go();
}

template <class T, bool TRANSPOSED> mb_status multiply(const Thin<T> *all, int64_t groups, int slot, const char *name) {
  return multiply_by<Product<T, TRANSPOSED>, T, TRANSPOSED>(all, groups, slot, name);
}

// G += u^T p over the rows that count, u (count, q, m) and p (count, q, n); a matrix without any is not touched.
template <class T> struct Update {
  static constexpr int THREADS = 128, ROWS = 32, DEPTH = 16;
  struct Shared {
    alignas(16) T u[DEPTH][ROWS];
  };
  void *const *g;
  const T *u, *p;
  Rows which;
  int64_t m, n, row_tiles, strips;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t strip = block.index % strips, row = block.index / strips % row_tiles * ROWS, matrix = block.index / (strips * row_tiles);
    int64_t column = strip * THREADS, c = which.of(matrix);
    if (c == 0) return;
    T *to = (T *)g[matrix];
    Private<Sums<T, ROWS>, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) sums[thread].of[r] = 0;
    });
    for (int64_t start = 0; start < c; start += DEPTH) {
      int depth = c - start < DEPTH ? (int)(c - start) : DEPTH;
      block.each([&](int thread) {
        for (int e = thread; e < depth * ROWS; e += THREADS) {
          int64_t r = row + e % ROWS;
          shared.u[e / ROWS][e % ROWS] = r < m ? u[(matrix * which.q + start + e / ROWS) * m + r] : T(0);
        }
      });
      block.each([&](int thread) {
        for (int d = 0; d < depth && column + thread < n; d++) {
          T number = p[(matrix * which.q + start + d) * n + column + thread];
SIMT_UNROLL
          for (int r = 0; r < ROWS; r++) sums[thread].of[r] += shared.u[d][r] * number;
        }
      });
    }
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++)
        if (row + r < m && column + thread < n) to[(row + r) * n + column + thread] += sums[thread].of[r];
    });
  }
};

template <class T>
mb_status add_update(Launches<Update<T>> *launches, void *const *g, const T *u, const T *p, const Rows &which, int64_t m, int64_t n,
                     int64_t count) {
  int64_t row_tiles = ceil_div(m, Update<T>::ROWS), strips = ceil_div(n, Update<T>::THREADS);
  return launches->add(Update<T>{g, u, p, which, m, n, row_tiles, strips}, count * row_tiles * strips);
}

// How many directions there are up to the last one with a gain.
struct Changed {
  int64_t *changed;
  const double *gain; // (count, k)
  int64_t k;
  SIMT void operator()(int64_t i) const {
    int64_t n = k;
    while (n > 0 && gain[i * k + n - 1] == 0) n--;
    changed[i] = n;
  }
};

} // namespace mbk
#endif
