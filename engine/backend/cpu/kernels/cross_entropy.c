// SPDX-License-Identifier: MIT
//
// cross_entropy.c: for each row x of V logits with target t, smoothing s, m = max x and z = sum exp(x - m),
//   loss = log z - (1 - s) (x[t] - m) - s mean(x - m),   dx[v] = g (exp(x[v] - m) / z - s / V - (1 - s) [v = t])
// The forward reads the logits once: a chunk that fits the first cache is asked for its maximum and then
// for its sum of exponentials, and the running sum is rescaled when the maximum grows. m and 1 / z are kept
// apart, not as one log-sum-exp, which would lose the digits of log z next to a large m.
#include "backend/cpu/rowmath.h"
#include "backend/cpu/vmath.h"

// *most = the largest of the row; *total = sum of the row, if asked for; returns sum exp(x - *most).
static double row_exp_sum(const real *row, int64_t n, real *most, double *total) {
  real m = -(real)INFINITY;
  double sum = 0;
  if (total) *total = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *x = row + start;
    int64_t count = mbk_chunk_at(start, n);
    real peak = mbk_row_max(x, count);
    if (peak > m) {
      sum *= exp((double)m - (double)peak);
      m = peak;
    }
    // While nothing but -infinity was seen there is nothing to shift by, and only a NaN makes a sum.
    real shift = m == -(real)INFINITY ? 0 : m, part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = 0; i < count; i++) part += mbk_exp(x[i] - shift);
    sum += (double)part;
    if (total) *total += mbk_row_sum(x, count);
  }
  *most = m;
  return sum;
}

mb_status MBK(cross_entropy)(void *out, void *stats, const void *logits, const int32_t *targets, int64_t rows, int64_t columns,
                             double smoothing, int64_t ignored, int is_mean) {
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, (size_t)rows * sizeof(double)));
  double *loss = memory;
  real *most = stats, *inverse = most + rows;
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++) {
    const real *x = (const real *)logits + r * columns;
    loss[r] = 0;
    most[r] = inverse[r] = 0;
    if (targets[r] == ignored) continue;
    double total = 0, z = row_exp_sum(x, columns, &most[r], smoothing > 0 ? &total : NULL), m = (double)most[r];
    inverse[r] = (real)(1 / z);
    loss[r] = log(z) - (1 - smoothing) * ((double)x[targets[r]] - m);
    if (smoothing > 0) loss[r] -= smoothing * (total / (double)columns - m);
  }
  double sum = 0, counted = 0;
  for (int64_t r = 0; r < rows; r++) {
    sum += loss[r];
    counted += targets[r] != ignored;
  }
  *(real *)out = (real)(is_mean ? sum / counted : sum);
  most[2 * rows] = (real)(is_mean ? 1 / counted : 1);
  return MB_OK;
}

// dx = factor exp(x - m) - shift; dx may be x itself.
static void gradient_row(real *dx, int accumulate, const real *x, int64_t n, real m, real factor, real shift) {
  if (accumulate) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) dx[i] += factor * mbk_exp(x[i] - m) - shift;
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) dx[i] = factor * mbk_exp(x[i] - m) - shift;
  }
}

mb_status MBK(cross_entropy_backward)(void *dlogits, int accumulate, const void *dout, const void *logits, const void *stats,
                                      const int32_t *targets, int64_t rows, int64_t columns, double smoothing, int64_t ignored) {
  const real *most = stats, *inverse = most + rows;
  real scale = *(const real *)dout * most[2 * rows];
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++) {
    real *dx = (real *)dlogits + r * columns;
    if (targets[r] == ignored) {
      for (int64_t i = 0; !accumulate && i < columns; i++) dx[i] = 0;
      continue;
    }
    gradient_row(dx, accumulate, (const real *)logits + r * columns, columns, most[r], scale * inverse[r],
                 scale * (real)(smoothing / (double)columns));
    dx[targets[r]] -= scale * (real)(1 - smoothing);
  }
  return MB_OK;
}
