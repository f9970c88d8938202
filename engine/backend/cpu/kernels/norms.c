// SPDX-License-Identifier: MIT
//
// norms.c: lengths of many arrays, and arrays brought to new lengths, in any range: squares of the largest and smallest numbers
// leave float64's range too, and are then taken of numbers times a power of two. And plain sums of squares, and products.
#include <float.h>

#include "backend/cpu/cpu.h"
#include "core/spectra.h"

// The largest absolute value of finite numbers.
static double largest_of(const real *x, int64_t size) {
  real most = 0;
#pragma omp parallel for simd schedule(static) reduction(max : most) if (size >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < size; i++) {
    real value = x[i] < 0 ? -x[i] : x[i];
    most = value > most ? value : most;
  }
  return (double)most;
}

// *finite = 0, and no norm, where x holds NaN or Inf.
static mb_status norm_of(double *norm, int *finite, const real *x, int64_t size) {
  double sum = 0;
  int64_t bad;
  *finite = 1;
  MB_TRY(MBK(sum_squares)(&sum, x, size));
  *norm = sqrt(sum);
  if (isfinite(sum) && sum > 1e-200) return MB_OK;
  // Zero, out of float64's range when squared, or not finite.
  MB_TRY(MBK(find_nonfinite)(&bad, x, size));
  *finite = bad < 0;
  if (bad >= 0) return MB_OK;
  double largest = largest_of(x, size), scale = mbi_scale_of(largest, sizeof(real) == sizeof(float));
  sum = 0;
  for (int64_t i = 0; i < size && largest > 0; i++) {
    double value = (double)x[i] * scale;
    sum += value * value;
  }
  *norm = sqrt(sum) / scale;
  return MB_OK;
}

static mb_status find(const mbi_arrays *a, int64_t wanted) {
  double *norm = a->norm, *scale = a->scale;
  int64_t *flags = a->flags;
  for (int64_t i = 0; i < a->count; i++) {
    double length;
    int finite;
    if ((flags[i] & wanted) != wanted) continue;
    MB_TRY(norm_of(&length, &finite, a->x[i], a->size[i]));
    if (!finite) flags[i] = 0;
    else if (scale) scale[i] = mbi_scale_of(length, sizeof(real) == sizeof(float));
    if (norm && finite) norm[i] = length;
  }
  return MB_OK;
}

mb_status MBK(norms)(const mbi_arrays *a, int64_t groups, int64_t wanted) {
  for (int64_t at = 0; at < groups; at++) MB_TRY(find(a + at, wanted));
  return MB_OK;
}

static mb_status bring(const mbi_arrays *a) {
  const double *norm = a->norm, *target = a->target, *gain = a->gain;
  const double least = sizeof(real) == sizeof(float) ? (double)FLT_MIN : DBL_MIN;
  for (int64_t i = 0; i < a->count; i++) {
    if (gain[i] == 0) continue;
    mbi_view x = {.data = a->x[i], .ndim = 1, .size = {a->size[i]}, .stride = {1}};
    double ratio = target[i] / norm[i];
    // A ratio that the dtype holds with fewer digits, or not at all, is taken in two: to a norm near 1, and from there.
    if (!(ratio >= least && ratio <= 1 / least)) {
      double near_one = mbi_scale_of(norm[i], sizeof(real) == sizeof(float));
      MB_TRY(MBK(unary)(MBI_AFFINE, &x, &x, near_one, 0));
      ratio = target[i] / (norm[i] * near_one);
    }
    MB_TRY(MBK(unary)(MBI_AFFINE, &x, &x, ratio, 0));
  }
  return MB_OK;
}

mb_status MBK(rescale)(const mbi_arrays *a, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) MB_TRY(bring(a + at));
  return MB_OK;
}

mb_status MBK(sums_of_squares)(const mbi_arrays *a, int64_t groups) {
  for (const mbi_arrays *g = a; g < a + groups; g++)
    for (int64_t i = 0; i < g->count; i++) {
      g->norm[i] = 0;
      MB_TRY(MBK(sum_squares)(&g->norm[i], g->x[i], g->size[i]));
    }
  return MB_OK;
}

mb_status MBK(multiply_all)(const mbi_arrays *a, int64_t groups) {
  for (const mbi_arrays *g = a; g < a + groups; g++)
    for (int64_t i = 0; i < g->count; i++) {
      mbi_view x = {.data = g->x[i], .ndim = 1, .size = {g->size[i]}, .stride = {1}};
      if (g->gain[i] != 1) MB_TRY(MBK(unary)(MBI_AFFINE, &x, &x, g->gain[i], 0));
    }
  return MB_OK;
}
