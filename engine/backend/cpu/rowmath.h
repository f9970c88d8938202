// SPDX-License-Identifier: MIT
//
// rowmath.h: sums and maxima of one contiguous row, and sums over rows, for the norms, softmax and cross
// entropy. A row is cut into chunks. The bulk of a chunk is added up in four groups of vector lanes, so that
// additions do not wait for each other, the rest in one, which is what short rows want; chunks are added in
// float64. So the error grows with MBK_CHUNK, not with the row.
#ifndef MBK_ROWMATH_H
#define MBK_ROWMATH_H
#include "backend/cpu/cpu.h"

enum { MBK_CHUNK = 2048 };

static inline int64_t mbk_chunk_at(int64_t start, int64_t n) { return n - start < MBK_CHUNK ? n - start : MBK_CHUNK; }
// A quarter of the bulk of a chunk: whole vectors, 0 for a short one.
static inline int64_t mbk_quarter(int64_t count) { return count / 256 * 64; }

// Starts loading a row, the next one to be read, while this one is computed.
static inline void mbk_prefetch_row(const real *x, int64_t n) {
  enum { LINE = 64 / sizeof(real) };
  for (int64_t i = 0; i < n; i += LINE) __builtin_prefetch(x + i, 0, 3);
}

// out = x + y; returns out.
static inline const real *mbk_row_plus(real *restrict out, const real *restrict x, const real *restrict y, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = x[i] + y[i];
  return out;
}

// sum x[i]
static inline double mbk_row_sum(const real *row, int64_t n) {
  double sum = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *x = row + start;
    int64_t count = mbk_chunk_at(start, n), q = mbk_quarter(count);
    real s0 = 0, s1 = 0, s2 = 0, s3 = 0, rest = 0;
    if (q > 0) {
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (int64_t i = 0; i < q; i++) s0 += x[i], s1 += x[q + i], s2 += x[2 * q + i], s3 += x[3 * q + i];
    }
#pragma omp simd reduction(+ : rest)
    for (int64_t i = 4 * q; i < count; i++) rest += x[i];
    sum += (double)((s0 + s1) + (s2 + s3) + rest);
  }
  return sum;
}

// sum (x[i] - shift)^2
static inline double mbk_row_squares(const real *row, int64_t n, real shift) {
  double sum = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *x = row + start;
    int64_t count = mbk_chunk_at(start, n), q = mbk_quarter(count);
    real s0 = 0, s1 = 0, s2 = 0, s3 = 0, rest = 0;
    if (q > 0) {
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (int64_t i = 0; i < q; i++) {
        real a = x[i] - shift, b = x[q + i] - shift, c = x[2 * q + i] - shift, d = x[3 * q + i] - shift;
        s0 += a * a, s1 += b * b, s2 += c * c, s3 += d * d;
      }
    }
#pragma omp simd reduction(+ : rest)
    for (int64_t i = 4 * q; i < count; i++) rest += (x[i] - shift) * (x[i] - shift);
    sum += (double)((s0 + s1) + (s2 + s3) + rest);
  }
  return sum;
}

// sum a[i] b[i]
static inline double mbk_row_dot(const real *a, const real *b, int64_t n) {
  double sum = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *x = a + start, *y = b + start;
    int64_t count = mbk_chunk_at(start, n), q = mbk_quarter(count);
    real s0 = 0, s1 = 0, s2 = 0, s3 = 0, rest = 0;
    if (q > 0) {
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (int64_t i = 0; i < q; i++)
        s0 += x[i] * y[i], s1 += x[q + i] * y[q + i], s2 += x[2 * q + i] * y[2 * q + i], s3 += x[3 * q + i] * y[3 * q + i];
    }
#pragma omp simd reduction(+ : rest)
    for (int64_t i = 4 * q; i < count; i++) rest += x[i] * y[i];
    sum += (double)((s0 + s1) + (s2 + s3) + rest);
  }
  return sum;
}

// The largest element, -infinity at least; NaN elements are passed over.
static inline real mbk_row_max(const real *x, int64_t n) {
  real m0 = -(real)INFINITY, m1 = m0, m2 = m0, m3 = m0;
  int64_t q = mbk_quarter(n);
  if (q > 0) {
#pragma omp simd reduction(max : m0, m1, m2, m3)
    for (int64_t i = 0; i < q; i++) {
      m0 = x[i] > m0 ? x[i] : m0;
      m1 = x[q + i] > m1 ? x[q + i] : m1;
      m2 = x[2 * q + i] > m2 ? x[2 * q + i] : m2;
      m3 = x[3 * q + i] > m3 ? x[3 * q + i] : m3;
    }
  }
#pragma omp simd reduction(max : m0)
  for (int64_t i = 4 * q; i < n; i++) m0 = x[i] > m0 ? x[i] : m0;
  m0 = m1 > m0 ? m1 : m0;
  m2 = m3 > m2 ? m3 : m2;
  return m2 > m0 ? m2 : m0;
}

// ----- parameters of a row: weight and bias, and their gradients --------------------------------------------

// The parameter, or a row of `value` in a scratch slot in place of one that is missing.
static inline mb_status mbk_row_or(const real **out, const void *given, int slot, int64_t columns, real value) {
  *out = given;
  if (given) return MB_OK;
  void *memory;
  MB_TRY(mbi_scratch(&memory, slot, (size_t)columns * sizeof(real)));
  for (int64_t i = 0; i < columns; i++) ((real *)memory)[i] = value;
  *out = memory;
  return MB_OK;
}

// Sums over rows are made by blocks of rows, one line of partial sums a block. The block depends on the
// number of rows alone, never on the number of threads.
static inline int64_t mbk_block_rows(int64_t rows) {
  enum { LEAST_ROWS = 16, MOST_BLOCKS = 256 };
  int64_t block = (rows + MOST_BLOCKS - 1) / MOST_BLOCKS;
  return block < LEAST_ROWS ? LEAST_ROWS : block;
}

// d[c] (+)= sum over lines of line[c], in order.
static inline void mbk_fold_lines(real *d, int accumulate, const real *lines, int64_t count, int64_t stride, int64_t columns) {
  enum { STRIP = 64 };
#pragma omp parallel for schedule(static) if (count * columns >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < columns; start += STRIP) {
    double sum[STRIP] = {0};
    int64_t n = columns - start < STRIP ? columns - start : STRIP;
    for (int64_t l = 0; l < count; l++)
      for (int64_t i = 0; i < n; i++) sum[i] += (double)lines[l * stride + start + i];
    for (int64_t i = 0; i < n; i++) d[start + i] = (real)(accumulate ? (double)d[start + i] + sum[i] : sum[i]);
  }
}
#endif
