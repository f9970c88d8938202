// SPDX-License-Identifier: MIT
//
// softmax.c: y = exp(x - max x) / sum, or its logarithm, over the middle of (outer, size, inner).
//   dx = y (dy - sum dy y);   for the logarithm dx = dy - exp(y) sum dy
// inner = 1: one row after another. Else strips of neighbouring columns go through the middle side by side,
// as vector code. The maximum passes over NaN, the sum does not: a NaN makes all of its row NaN.
#include "backend/cpu/rowmath.h"
#include "backend/cpu/vmath.h"

enum { STRIP = 64 };
typedef real *restrict to;
typedef const real *restrict from;

// ----- rows -------------------------------------------------------------------------------------------

static void forward_row(to y, from x, int64_t n, int is_log) {
  real most = mbk_row_max(x, n);
  double sum = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    int64_t end = start + mbk_chunk_at(start, n);
    real part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = start; i < end; i++) {
      real e = mbk_exp_soft(x[i] - most);
      y[i] = e;
      part += e;
    }
    sum += (double)part;
  }
  if (is_log) {
    real shift = (real)log(sum);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] - most - shift;
  } else {
    real scale = (real)(1 / sum);
    for (int64_t i = 0; i < n; i++) y[i] *= scale;
  }
}

static void backward_row(to dx, int accumulate, from dy, from y, int64_t n, int is_log) {
  real sum = (real)(is_log ? mbk_row_sum(dy, n) : mbk_row_dot(dy, y, n));
  if (is_log && accumulate)
    for (int64_t i = 0; i < n; i++) dx[i] += dy[i] - mbk_exp_soft(y[i]) * sum;
  else if (is_log)
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] - mbk_exp_soft(y[i]) * sum;
  else if (accumulate)
    for (int64_t i = 0; i < n; i++) dx[i] += y[i] * (dy[i] - sum);
  else
    for (int64_t i = 0; i < n; i++) dx[i] = y[i] * (dy[i] - sum);
}

// ----- strips: n columns, `step` elements from one row to the next -------------------------------------------

static void forward_strip(to y, from x, int64_t size, int64_t step, int64_t n, int is_log) {
  real most[STRIP], factor[STRIP];
  double sum[STRIP] = {0};
  for (int64_t i = 0; i < n; i++) most[i] = x[i];
  for (int64_t j = 1; j < size; j++)
    for (int64_t i = 0; i < n; i++) most[i] = x[j * step + i] > most[i] ? x[j * step + i] : most[i];
  for (int64_t j = 0; j < size; j++)
    for (int64_t i = 0; i < n; i++) {
      real e = mbk_exp_soft(x[j * step + i] - most[i]);
      y[j * step + i] = e;
      sum[i] += (double)e;
    }
  for (int64_t i = 0; i < n; i++) factor[i] = (real)(is_log ? log(sum[i]) : 1 / sum[i]);
  if (is_log)
    for (int64_t j = 0; j < size; j++)
      for (int64_t i = 0; i < n; i++) y[j * step + i] = x[j * step + i] - most[i] - factor[i];
  else
    for (int64_t j = 0; j < size; j++)
      for (int64_t i = 0; i < n; i++) y[j * step + i] *= factor[i];
}

static void backward_strip(to dx, int accumulate, from dy, from y, int64_t size, int64_t step, int64_t n, int is_log) {
  double sum[STRIP] = {0};
  real total[STRIP];
  for (int64_t j = 0; j < size; j++)
    for (int64_t i = 0; i < n; i++) sum[i] += (double)(is_log ? dy[j * step + i] : dy[j * step + i] * y[j * step + i]);
  for (int64_t i = 0; i < n; i++) total[i] = (real)sum[i];
  for (int64_t j = 0; j < size; j++) {
    real *restrict x = dx + j * step;
    const real *restrict g = dy + j * step, *restrict v = y + j * step;
    if (is_log)
      for (int64_t i = 0; i < n; i++) x[i] = (accumulate ? x[i] : 0) + g[i] - mbk_exp_soft(v[i]) * total[i];
    else
      for (int64_t i = 0; i < n; i++) x[i] = (accumulate ? x[i] : 0) + v[i] * (g[i] - total[i]);
  }
}

// ----- kernels ----------------------------------------------------------------------------------------

mb_status MBK(softmax)(void *y, const void *x, int64_t outer, int64_t size, int64_t inner, int is_log) {
  int64_t strips = (inner + STRIP - 1) / STRIP;
#pragma omp parallel for schedule(static) if (outer * size * inner >= MBK_PARALLEL_FROM)
  for (int64_t k = 0; k < outer * strips; k++) {
    int64_t start = k % strips * STRIP, n = inner - start < STRIP ? inner - start : STRIP, offset = k / strips * size * inner + start;
    if (inner == 1) forward_row((real *)y + offset, (const real *)x + offset, size, is_log);
    else forward_strip((real *)y + offset, (const real *)x + offset, size, inner, n, is_log);
  }
  return MB_OK;
}

mb_status MBK(softmax_backward)(void *dx, int accumulate, const void *dy, const void *y, int64_t outer, int64_t size, int64_t inner,
                                int is_log) {
  int64_t strips = (inner + STRIP - 1) / STRIP;
#pragma omp parallel for schedule(static) if (outer * size * inner >= MBK_PARALLEL_FROM)
  for (int64_t k = 0; k < outer * strips; k++) {
    int64_t start = k % strips * STRIP, n = inner - start < STRIP ? inner - start : STRIP, offset = k / strips * size * inner + start;
    real *d = (real *)dx + offset;
    if (inner == 1) backward_row(d, accumulate, (const real *)dy + offset, (const real *)y + offset, size, is_log);
    else backward_strip(d, accumulate, (const real *)dy + offset, (const real *)y + offset, size, inner, n, is_log);
  }
  return MB_OK;
}
