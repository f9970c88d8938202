// SPDX-License-Identifier: MIT
//
// iterate.c: what iterations on batches of matrices need beside general products: products whose result is
// symmetric, at little more than half the work, normalisation to unit length, and a number on diagonals.
//
// Measured on two Zen 4 cores, float32, oneDNN: five steps of Newton-Schulz on four 768 x 768 take 205 ms, with plain
// products 270; on four 768 x 3072 659 and 785. From eight panels on nothing more is won.
#include <float.h>

#include "backend/cpu/cpu.h"

// ----- symmetric products -------------------------------------------------------------------------------

// C[j][i] = C[i][j] for j > i, in tiles that stay in cache.
static void mirror(real *c, int64_t n, int64_t ldc) {
  enum { TILE = 32 };
  for (int64_t i0 = 0; i0 < n; i0 += TILE)
    for (int64_t j0 = i0; j0 < n; j0 += TILE)
      for (int64_t i = i0; i < i0 + TILE && i < n; i++)
        for (int64_t j = j0 > i ? j0 : i + 1; j < j0 + TILE && j < n; j++) c[j * ldc + i] = c[i * ldc + j];
}

mb_status MBK(gemm_symmetric)(const mbi_gemm *g) {
  enum { PANEL = 128, MOST = 4 };
  int64_t n = g->n, panels = n / PANEL < 1 ? 1 : n / PANEL > MOST ? MOST : n / PANEL;
  for (int64_t p = 0; p < panels; p++) { // rows [first, last) of the upper triangle, from the diagonal on
    int64_t first = n * p / panels, last = n * (p + 1) / panels;
    mbi_gemm part = *g;
    part.m = last - first;
    part.n = n - first;
    part.a = (const real *)g->a + (g->transpose_a ? first : first * g->lda);
    part.b = (const real *)g->b + (g->transpose_b ? first * g->ldb : first);
    part.c = (real *)g->c + first * g->ldc + first;
    if (g->from) part.from = (const real *)g->from + first * g->ldc + first;
    MB_TRY(MBK(gemm)(&part));
  }
#pragma omp parallel for schedule(static) if (g->batch * n * n >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < g->batch; i++) mirror((real *)g->c + i * g->stride_c, n, g->ldc);
  return MB_OK;
}

// ----- unit length ------------------------------------------------------------------------------------------

static real largest_of(const real *x, int64_t size) {
  real most = 0;
  for (int64_t i = 0; i < size; i++) {
    real value = x[i] < 0 ? -x[i] : x[i];
    if (!(value <= most)) most = value; // a NaN stays only until the next number, but norms then show it
  }
  return most;
}

// The length of x scaled by *scale, a power of two other than 1 where the squares leave float64's range.
static mb_status length_of(double *length, double *scale, const real *x, int64_t size) {
  double sum = 0;
  *scale = 1;
  MB_TRY(MBK(sum_squares)(&sum, x, size));
  if (!(sum > 1e-280 && sum <= DBL_MAX)) {
    double most = (double)largest_of(x, size);
    if (most > 0 && most <= DBL_MAX && !isnan(sum)) {
      *scale = ldexp(1, -ilogb(most));
      sum = 0;
      for (int64_t i = 0; i < size; i++) {
        double value = (double)x[i] * *scale;
        sum += value * value;
      }
    }
  }
  *length = sqrt(sum);
  return MB_OK;
}

mb_status MBK(normalize)(void *y, mb_dtype dtype, double *norms, int64_t norm_stride, const void *x, int64_t count, int64_t size,
                         double factor, double epsilon) {
  if (dtype != (sizeof(real) == sizeof(double) ? MB_F64 : MB_F32))
    MB_FAIL(MB_ERR_DTYPE, "normalize: the CPU makes no %s", mbi_dtype_name(dtype));
  for (int64_t i = 0; i < count; i++) {
    const real *from = (const real *)x + i * size;
    real *to = (real *)y + i * size;
    double length, scale;
    MB_TRY(length_of(&length, &scale, from, size));
    if (norms) norms[i * norm_stride] = length / scale;
    double total = length + epsilon * scale, by = total > 0 ? factor / total : 0;
#pragma omp parallel for simd schedule(static) if (size >= MBK_PARALLEL_FROM)
    for (int64_t j = 0; j < size; j++) to[j] = (real)((double)from[j] * scale * by);
  }
  return MB_OK;
}

// ----- diagonals --------------------------------------------------------------------------------------------

mb_status MBK(add_to_diagonal)(void *c, mb_dtype dtype, int64_t count, int64_t s, double value) {
  if (dtype != (sizeof(real) == sizeof(double) ? MB_F64 : MB_F32))
    MB_FAIL(MB_ERR_DTYPE, "add_to_diagonal: the CPU has no %s", mbi_dtype_name(dtype));
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = 0; j < s; j++) ((real *)c)[(i * s + j) * s + j] += (real)value;
  return MB_OK;
}
