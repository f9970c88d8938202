// SPDX-License-Identifier: MIT
//
// tile.h: register-blocked products of small matrices that lie in cache, for kernels that need many of them
// in the middle of other work. A tile of C, MBK_ROWS x 2 vectors, is kept in registers while k runs:
//
//   C[i][j] (+)= sum_p A[i][p] B[p][j]
//
// Vectors are GCC's, of the width of this copy's instruction set. Two layouts are packed for it:
//   rows     tiles of MBK_ROWS rows of A, element (p, i) of a tile at p * MBK_ROWS + i
//   panels   strips of MBK_PANEL columns of B, one row after another; the last strip holds one vector a row
//            if that is enough
// Both are padded with zeros.
#ifndef MBK_TILE_H
#define MBK_TILE_H
#include "backend/cpu/cpu.h"

#if defined(__AVX512F__)
enum { MBK_VECTOR_BYTES = 64, MBK_ROWS = 8 };
#elif defined(__AVX2__)
enum { MBK_VECTOR_BYTES = 32, MBK_ROWS = 4 };
#else
enum { MBK_VECTOR_BYTES = 16, MBK_ROWS = 4 };
#endif
enum { MBK_LANES = MBK_VECTOR_BYTES / (int)sizeof(real), MBK_PANEL = 2 * MBK_LANES };

typedef real mbk_vector __attribute__((vector_size(MBK_VECTOR_BYTES), may_alias));

static inline int64_t mbk_round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// One tile; `vectors` (1 or 2) is a constant where this is inlined. Strides are in elements; b, c and their
// strides are aligned to vectors.
static inline __attribute__((always_inline)) void mbk_tile_of(const int vectors, int64_t k, const real *a, int64_t a_row, int64_t a_step,
                                                              const real *b, int64_t b_step, real *c, int64_t c_row, int accumulate) {
  mbk_vector sum[MBK_ROWS][2];
#pragma GCC unroll 8
  for (int i = 0; i < MBK_ROWS; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[i][v] = accumulate ? ((const mbk_vector *)(c + i * c_row))[v] : (mbk_vector){0};
  for (int64_t p = 0; p < k; p++) {
    const mbk_vector *row = (const mbk_vector *)(b + p * b_step);
    mbk_vector b0 = row[0], b1 = vectors > 1 ? row[1] : b0;
#pragma GCC unroll 8
    for (int i = 0; i < MBK_ROWS; i++) {
      real x = a[i * a_row + p * a_step];
      sum[i][0] += b0 * x;
      if (vectors > 1) sum[i][1] += b1 * x;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MBK_ROWS; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) ((mbk_vector *)(c + i * c_row))[v] = sum[i][v];
}

// Strip s of `width` columns: its address, and its vectors a row.
static inline const real *mbk_strip(const real *panels, int64_t strip, int64_t rows) { return panels + strip * rows * MBK_PANEL; }
static inline int mbk_strip_vectors(int64_t strip, int64_t width) { return width - strip * MBK_PANEL > MBK_LANES ? 2 : 1; }

// to (tiles of rows) = rows of `width` numbers, `stride` apart.
static inline void mbk_pack_rows(real *to, const real *from, int64_t stride, int64_t rows, int64_t width) {
  int64_t first = 0;
  for (; first + MBK_ROWS <= rows; first += MBK_ROWS, to += MBK_ROWS * width)
    for (int64_t p = 0; p < width; p++)
      for (int64_t i = 0; i < MBK_ROWS; i++) to[p * MBK_ROWS + i] = from[(first + i) * stride + p];
  if (first == rows) return;
  for (int64_t p = 0; p < width; p++)
    for (int64_t i = 0; i < MBK_ROWS; i++) to[p * MBK_ROWS + i] = first + i < rows ? from[(first + i) * stride + p] : 0;
}

// to (panels) = factor times rows of `width` numbers, `stride` apart; rows up to `padded_rows` are zero.
static inline void mbk_pack_panels(real *to, const real *from, int64_t stride, int64_t rows, int64_t padded_rows, int64_t width,
                                   real factor) {
  for (int64_t strip = 0; strip * MBK_PANEL < width; strip++) {
    int64_t lanes = mbk_strip_vectors(strip, width) * MBK_LANES, first = strip * MBK_PANEL;
    int64_t n = width - first < lanes ? width - first : lanes;
    for (int64_t r = 0; r < padded_rows; r++, to += lanes) {
      int64_t filled = r < rows ? n : 0;
      for (int64_t j = 0; j < filled; j++) to[j] = factor * from[r * stride + first + j];
      for (int64_t j = filled; j < lanes; j++) to[j] = 0;
    }
  }
}

// to (width x MBK_PANEL) = factor times the transpose of at most MBK_PANEL rows. Rows are read along: they come
// from far, `to` is near.
static inline void mbk_pack_transposed(real *to, const real *from, int64_t stride, int64_t rows, int64_t width, real factor) {
  for (int64_t j = 0; j < rows; j++)
    for (int64_t p = 0; p < width; p++) to[p * MBK_PANEL + j] = factor * from[j * stride + p];
  for (int64_t j = rows; j < MBK_PANEL; j++)
    for (int64_t p = 0; p < width; p++) to[p * MBK_PANEL + j] = 0;
}
#endif
