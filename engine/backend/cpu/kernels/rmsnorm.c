// SPDX-License-Identifier: MIT
//
// rmsnorm.c: rows of C elements. With g = dy weight,
//   y = x rstd weight,   rstd = 1 / sqrt(mean(x^2) + epsilon)
//   dx = rstd g - x rstd^3 mean(g x),   dweight = sum over rows of dy x rstd
// The sum over rows goes by blocks, as in layernorm.c.
#include "backend/cpu/rowmath.h"

typedef real *restrict to;
typedef const real *restrict from;

static void forward_row(to y, from x, from weight, int64_t columns, real rstd) {
  for (int64_t i = 0; i < columns; i++) y[i] = x[i] * rstd * weight[i];
}

mb_status MBK(rmsnorm)(void *y, void *rstd, void *sum, const void *x, const void *added, const void *weight, int64_t rows, int64_t columns,
                       double epsilon) {
  const real *w;
  MB_TRY(mbk_row_or(&w, weight, 0, columns, 1));
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++) {
    const real *row = (const real *)x + r * columns;
    if (added) row = mbk_row_plus((real *)sum + r * columns, row, (const real *)added + r * columns, columns);
    mbk_prefetch_row((const real *)x + (r + 1) * columns, columns);
    real s = (real)(1 / sqrt(mbk_row_squares(row, columns, 0) / (double)columns + epsilon));
    forward_row((real *)y + r * columns, row, w, columns, s);
    if (rstd) ((real *)rstd)[r] = s;
  }
  return MB_OK;
}

// sum of dy weight x over a row.
static double row_product(from row_dy, from row_x, from row_w, int64_t n) {
  double sum = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *dy = row_dy + start, *x = row_x + start, *w = row_w + start;
    int64_t count = mbk_chunk_at(start, n);
    real part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = 0; i < count; i++) part += dy[i] * w[i] * x[i];
    sum += (double)part;
  }
  return sum;
}

// The same, while the row's share is added to dweight.
static double row_product_and_share(to row_dweight, from row_dy, from row_x, from row_w, int64_t n, real rstd) {
  double sum = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *restrict dy = row_dy + start, *restrict x = row_x + start, *restrict w = row_w + start;
    real *restrict dweight = row_dweight + start;
    int64_t count = mbk_chunk_at(start, n);
    real part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = 0; i < count; i++) {
      part += dy[i] * w[i] * x[i];
      dweight[i] += dy[i] * x[i] * rstd;
    }
    sum += (double)part;
  }
  return sum;
}

// dx = rstd g - x b
static void input_row(to dx, int accumulate, double product, from dy, from x, from w, int64_t n, real rstd) {
  double s = (double)rstd;
  real b = (real)(product / (double)n * s * s * s);
  if (accumulate)
    for (int64_t i = 0; i < n; i++) dx[i] += rstd * dy[i] * w[i] - x[i] * b;
  else
    for (int64_t i = 0; i < n; i++) dx[i] = rstd * dy[i] * w[i] - x[i] * b;
}

static void weight_row(to dweight, from dy, from x, int64_t n, real rstd) {
  for (int64_t i = 0; i < n; i++) dweight[i] += dy[i] * x[i] * rstd;
}

mb_status MBK(rmsnorm_backward)(void *dx, int accumulate_x, void *dweight, int accumulate_weight, const void *dy, const void *x,
                                const void *rstd, const void *weight, int64_t rows, int64_t columns) {
  const real *w;
  MB_TRY(mbk_row_or(&w, weight, 0, columns, 1));
  int64_t block = mbk_block_rows(rows), blocks = (rows + block - 1) / block;
  void *lines = NULL; // (blocks, C)
  if (dweight) MB_TRY(mbi_scratch(&lines, 2, (size_t)(blocks * columns) * sizeof(real)));
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t k = 0; k < blocks; k++) {
    real *line = lines ? (real *)lines + k * columns : NULL;
    for (int64_t i = 0; line && i < columns; i++) line[i] = 0;
    int64_t end = (k + 1) * block < rows ? (k + 1) * block : rows;
    for (int64_t r = k * block; r < end; r++) {
      const real *row_dy = (const real *)dy + r * columns, *row_x = (const real *)x + r * columns;
      real s = ((const real *)rstd)[r];
      if (!dx) {
        weight_row(line, row_dy, row_x, columns, s);
        continue;
      }
      double product = line ? row_product_and_share(line, row_dy, row_x, w, columns, s) : row_product(row_dy, row_x, w, columns);
      input_row((real *)dx + r * columns, accumulate_x, product, row_dy, row_x, w, columns, s);
    }
  }
  if (dweight) mbk_fold_lines(dweight, accumulate_weight, lines, blocks, columns, columns);
  return MB_OK;
}
