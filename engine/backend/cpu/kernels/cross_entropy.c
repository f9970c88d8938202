// SPDX-License-Identifier: MIT
//
// cross_entropy.c: for each row x of V logits with target t, smoothing s and L = log sum exp x,
//   loss = (1 - s) (L - x[t]) + s (L - mean(x)),   dx[v] = g (exp(x[v] - L) - s / V - (1 - s) [v = t])
// The forward reads the logits once: a chunk that fits the first cache is asked for its maximum and then
// for its sum of exponentials, and the running sum is rescaled when the maximum grows.
#include "backend/cpu/rowmath.h"
#include "backend/cpu/vmath.h"

// log sum exp of a row; *total = sum of the row, if asked for.
static double row_log_sum_exp(const real *row, int64_t n, double *total) {
  real most = -(real)INFINITY;
  double sum = 0;
  if (total) *total = 0;
  for (int64_t start = 0; start < n; start += MBK_CHUNK) {
    const real *x = row + start;
    int64_t count = mbk_chunk_at(start, n);
    real peak = mbk_row_max(x, count);
    if (peak > most) {
      sum *= exp((double)most - (double)peak);
      most = peak;
    }
    // While nothing but -infinity was seen there is nothing to shift by, and only a NaN makes a sum.
    real shift = most == -(real)INFINITY ? 0 : most, part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = 0; i < count; i++) part += mbk_exp(x[i] - shift);
    sum += (double)part;
    if (total) *total += mbk_row_sum(x, count);
  }
  return (double)most + log(sum);
}

mb_status MBK(cross_entropy)(void *out, void *stats, const void *logits, const int32_t *targets, int64_t rows, int64_t columns,
                             double smoothing, int64_t ignored, int is_mean) {
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, (size_t)rows * sizeof(double)));
  double *loss = memory;
  real *log_sum = stats;
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++) {
    const real *x = (const real *)logits + r * columns;
    loss[r] = 0;
    log_sum[r] = 0;
    if (targets[r] == ignored) continue;
    double total = 0, l = row_log_sum_exp(x, columns, smoothing > 0 ? &total : NULL);
    log_sum[r] = (real)l;
    loss[r] = (1 - smoothing) * (l - (double)x[targets[r]]);
    if (smoothing > 0) loss[r] += smoothing * (l - total / (double)columns);
  }
  double sum = 0, counted = 0;
  for (int64_t r = 0; r < rows; r++) {
    sum += loss[r];
    counted += targets[r] != ignored;
  }
  double weight = is_mean ? 1 / counted : 1;
  *(real *)out = (real)(is_mean ? sum / counted : sum);
  log_sum[rows] = (real)weight;
  return MB_OK;
}

static void gradient_row(real *dx, int accumulate, const real *x, int64_t n, real log_sum, real scale, real smooth) {
  if (accumulate) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) dx[i] += scale * (mbk_exp(x[i] - log_sum) - smooth);
  } else { // dx may be x itself
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) dx[i] = scale * (mbk_exp(x[i] - log_sum) - smooth);
  }
}

mb_status MBK(cross_entropy_backward)(void *dlogits, int accumulate, const void *dout, const void *logits, const void *stats,
                                      const int32_t *targets, int64_t rows, int64_t columns, double smoothing, int64_t ignored) {
  const real *log_sum = stats;
  real scale = *(const real *)dout * log_sum[rows];
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++) {
    real *dx = (real *)dlogits + r * columns;
    if (targets[r] == ignored) {
      for (int64_t i = 0; !accumulate && i < columns; i++) dx[i] = 0;
      continue;
    }
    gradient_row(dx, accumulate, (const real *)logits + r * columns, columns, log_sum[r], scale, (real)(smoothing / (double)columns));
    dx[targets[r]] -= scale * (real)(1 - smoothing);
  }
  return MB_OK;
}
