// SPDX-License-Identifier: MIT
//
// layernorm.c: rows of C elements. With xhat = (x - mean) rstd and g = dy weight,
//   y = xhat weight + bias,   rstd = 1 / sqrt(mean((x - mean)^2) + epsilon)
//   dx = rstd (g - mean(g) - xhat mean(g xhat)),   dweight = sum over rows of dy xhat,   dbias = sum of dy
// The backward reads x and dy once: a block of rows adds its share of dweight and dbias to its own line of
// scratch, and the lines are summed in order.
#include "backend/cpu/rowmath.h"

typedef real *restrict to;
typedef const real *restrict from;

static void forward_row(to y, from x, from weight, from bias, int64_t columns, real mean, real rstd) {
  for (int64_t i = 0; i < columns; i++) y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
}

mb_status MBK(layernorm)(void *y, void *mean, void *rstd, void *sum, const void *x, const void *added, const void *weight, const void *bias,
                         int64_t rows, int64_t columns, double epsilon) {
  const real *w, *b;
  MB_TRY(mbk_row_or(&w, weight, 0, columns, 1));
  MB_TRY(mbk_row_or(&b, bias, 1, columns, 0));
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++) {
    const real *row = (const real *)x + r * columns;
    if (added) row = mbk_row_plus((real *)sum + r * columns, row, (const real *)added + r * columns, columns);
    real m = (real)(mbk_row_sum(row, columns) / (double)columns);
    mbk_prefetch_row((const real *)x + (r + 1) * columns, columns);
    real s = (real)(1 / sqrt(mbk_row_squares(row, columns, m) / (double)columns + epsilon));
    forward_row((real *)y + r * columns, row, w, b, columns, m, s);
    if (mean) ((real *)mean)[r] = m;
    if (rstd) ((real *)rstd)[r] = s;
  }
  return MB_OK;
}

// sum of g and of g xhat over a row.
static void row_sums(double *sum_g, double *sum_gx, from row_dy, from row_x, from row_w, int64_t n, real mean, real rstd) {
  *sum_g = *sum_gx = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *dy = row_dy + start, *x = row_x + start, *w = row_w + start;
    int64_t count = mbk_chunk_at(start, n);
    real g = 0, gx = 0;
#pragma omp simd reduction(+ : g, gx)
    for (int64_t i = 0; i < count; i++) g += dy[i] * w[i], gx += dy[i] * w[i] * (x[i] - mean);
    *sum_g += (double)g;
    *sum_gx += (double)gx * (double)rstd;
  }
}

// The same, while the row's share is added to dweight and dbias.
static void row_sums_and_shares(double *sum_g, double *sum_gx, to row_dweight, to row_dbias, from row_dy, from row_x, from row_w, int64_t n,
                                real mean, real rstd) {
  *sum_g = *sum_gx = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *restrict dy = row_dy + start, *restrict x = row_x + start, *restrict w = row_w + start;
    real *restrict dweight = row_dweight + start, *restrict dbias = row_dbias + start;
    int64_t count = mbk_chunk_at(start, n);
    real g = 0, gx = 0;
#pragma omp simd reduction(+ : g, gx)
    for (int64_t i = 0; i < count; i++) {
      real centred = x[i] - mean, a = dy[i] * w[i];
      g += a;
      gx += a * centred;
      dweight[i] += dy[i] * centred * rstd;
      dbias[i] += dy[i];
    }
    *sum_g += (double)g;
    *sum_gx += (double)gx * (double)rstd;
  }
}

// dx = rstd g - a - (x - mean) b
static void input_row(to dx, int accumulate, double sum_g, double sum_gx, from dy, from x, from w, int64_t n, real mean, real rstd) {
  real a = (real)(sum_g / (double)n * (double)rstd), b = (real)(sum_gx / (double)n * (double)rstd * (double)rstd);
  if (accumulate)
    for (int64_t i = 0; i < n; i++) dx[i] += rstd * dy[i] * w[i] - a - (x[i] - mean) * b;
  else
    for (int64_t i = 0; i < n; i++) dx[i] = rstd * dy[i] * w[i] - a - (x[i] - mean) * b;
}

static void parameter_row(to dweight, to dbias, from dy, from x, int64_t n, real mean, real rstd) {
  for (int64_t i = 0; i < n; i++) {
    dweight[i] += dy[i] * (x[i] - mean) * rstd;
    dbias[i] += dy[i];
  }
}

mb_status MBK(layernorm_backward)(void *dx, int accumulate_x, void *dweight, int accumulate_weight, void *dbias, int accumulate_bias,
                                  const void *dy, const void *x, const void *mean, const void *rstd, const void *weight, int64_t rows,
                                  int64_t columns) {
  const real *w;
  MB_TRY(mbk_row_or(&w, weight, 0, columns, 1));
  int64_t block = mbk_block_rows(rows), blocks = (rows + block - 1) / block;
  real *lines = NULL; // (blocks, 2, C): dweight, dbias
  void *memory;
  if (dweight || dbias) {
    MB_TRY(mbi_scratch(&memory, 2, (size_t)(blocks * 2 * columns) * sizeof(real)));
    lines = memory;
  }
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t k = 0; k < blocks; k++) {
    real *line = lines ? lines + k * 2 * columns : NULL;
    for (int64_t i = 0; line && i < 2 * columns; i++) line[i] = 0;
    int64_t end = (k + 1) * block < rows ? (k + 1) * block : rows;
    for (int64_t r = k * block; r < end; r++) {
      const real *row_dy = (const real *)dy + r * columns, *row_x = (const real *)x + r * columns;
      real m = ((const real *)mean)[r], s = ((const real *)rstd)[r];
      double sum_g, sum_gx;
      if (!dx) {
        parameter_row(line, line + columns, row_dy, row_x, columns, m, s);
        continue;
      }
      if (line) row_sums_and_shares(&sum_g, &sum_gx, line, line + columns, row_dy, row_x, w, columns, m, s);
      else row_sums(&sum_g, &sum_gx, row_dy, row_x, w, columns, m, s);
      input_row((real *)dx + r * columns, accumulate_x, sum_g, sum_gx, row_dy, row_x, w, columns, m, s);
    }
  }
  if (dweight) mbk_fold_lines(dweight, accumulate_weight, lines, blocks, 2 * columns, columns);
  if (dbias) mbk_fold_lines(dbias, accumulate_bias, lines + columns, blocks, 2 * columns, columns);
  return MB_OK;
}
