// SPDX-License-Identifier: MIT
//
// cross_entropy.c: for each row x of V logits with target t, smoothing s, a shift m near max x and
// z = sum exp(x - m),
//   loss = log z - (1 - s) (x[t] - m) - s mean(x - m),   dx[v] = g (exp(x[v] - m) / z - s / V - (1 - s) [v = t])
// The forward reads the logits once, chunk by chunk: m is the maximum of the first chunk, and stays until a
// chunk has an element that is larger by MARGIN; then what was summed is rescaled. m and 1 / z are kept
// apart, not as one log-sum-exp, which would lose the digits of log z next to a large m. A row that is overwritten with its gradient is
// so at once, while it is in the cache.
#include <float.h>

#include "backend/cpu/rowmath.h"
#include "backend/cpu/vmath.h"

enum { MARGIN = 16 }; // exp(MARGIN) V is far from the largest float

static const real lowest = MBK_REAL == 64 ? (real)-DBL_MAX : (real)-FLT_MAX;

static real exp_sum(const real *x, int64_t count, real m) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) sum += mbk_exp_soft(x[i] - m);
  return sum;
}

// The same, and the largest element on the way.
static real exp_sum_and_peak(const real *x, int64_t count, real m, real *peak) {
  real sum = 0, most = lowest;
#pragma omp simd reduction(+ : sum) reduction(max : most)
  for (int64_t i = 0; i < count; i++) {
    sum += mbk_exp_soft(x[i] - m);
    most = x[i] > most ? x[i] : most;
  }
  *peak = most;
  return sum;
}

// sum exp(x - *shift) of a row; *total = sum of the row, if asked for.
static double row_exp_sum(const real *row, int64_t n, real *shift, double *total) {
  int64_t count = mbk_chunk_at(0, n);
  real m = mbk_row_max(row, count);
  if (m < lowest) m = lowest; // nothing but -infinity so far: any number will do
  double sum = (double)exp_sum(row, count, m);
  for (int64_t start = count; start < n; start += count) {
    count = mbk_chunk_at(start, n);
    real peak, part = exp_sum_and_peak(row + start, count, m, &peak);
    if (peak > m + MARGIN) {
      sum *= exp((double)m - (double)peak);
      m = peak;
      part = exp_sum(row + start, count, m);
    }
    sum += (double)part;
  }
  if (total) *total = mbk_row_sum(row, n);
  *shift = m;
  return sum;
}

// dx = factor exp(x - m) - smooth; dx may be x itself.
static void gradient_row(real *dx, int accumulate, const real *x, int64_t n, real m, real factor, real smooth) {
  if (accumulate) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) dx[i] += factor * mbk_exp_soft(x[i] - m) - smooth;
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) dx[i] = factor * mbk_exp_soft(x[i] - m) - smooth;
  }
}

// A row of the gradient of a loss that counts `scale`; dx may be x.
static void gradient_of_row(real *dx, int accumulate, const real *x, int32_t target, int64_t n, real shift, real inverse, real scale,
                            double smoothing, int64_t ignored) {
  if (target == ignored) {
    for (int64_t i = 0; !accumulate && i < n; i++) dx[i] = 0;
    return;
  }
  gradient_row(dx, accumulate, x, n, shift, scale * inverse, scale * (real)(smoothing / (double)n));
  dx[target] -= scale * (real)(1 - smoothing);
}

static double count_targets(const int32_t *targets, int64_t rows, int64_t ignored) {
  double counted = 0;
  for (int64_t r = 0; r < rows; r++) counted += targets[r] != ignored;
  return counted;
}

mb_status MBK(cross_entropy)(void *out, void *stats, double *losses, void *logits, int64_t stride, int overwrites, const int32_t *targets,
                             int64_t rows, int64_t first, int64_t count, int64_t columns, double smoothing, int64_t ignored, int is_mean,
                             double scale) {
  void *memory = losses;
  if (!memory) MB_TRY(mbi_scratch(&memory, 0, (size_t)rows * sizeof(double)));
  double *loss = memory;
  real *shift = stats, *inverse = shift + rows;
  if (first == 0) shift[2 * rows] = (real)(is_mean ? scale / count_targets(targets, rows, ignored) : scale);
  real weight = shift[2 * rows];
#pragma omp parallel for schedule(static) if (count * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = first; r < first + count; r++) {
    real *x = (real *)logits + (r - first) * stride;
    loss[r] = 0;
    shift[r] = inverse[r] = 0;
    if (targets[r] != ignored) {
      double total = 0, z = row_exp_sum(x, columns, &shift[r], smoothing > 0 ? &total : NULL), m = (double)shift[r];
      inverse[r] = (real)(1 / z);
      loss[r] = log(z) - (1 - smoothing) * ((double)x[targets[r]] - m);
      if (smoothing > 0) loss[r] -= smoothing * (total / (double)columns - m);
    }
    if (overwrites) gradient_of_row(x, 0, x, targets[r], columns, shift[r], inverse[r], weight, smoothing, ignored);
  }
  if (first + count < rows) return MB_OK;
  double sum = 0;
  for (int64_t r = 0; r < rows; r++) sum += loss[r];
  *(real *)out = (real)(scale * (is_mean ? sum / count_targets(targets, rows, ignored) : sum));
  return MB_OK;
}

static void multiply_rows(real *x, real factor, int64_t rows, int64_t columns, int64_t stride) {
  if (factor == 1) return;
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < columns; i++) x[r * stride + i] *= factor;
}

mb_status MBK(cross_entropy_backward)(void *dlogits, int accumulate, const void *dout, const void *logits, int64_t stride, const void *stats,
                                      const int32_t *targets, int64_t rows, int64_t columns, double smoothing, int64_t ignored) {
  if (!stats) {
    multiply_rows(dlogits, *(const real *)dout, rows, columns, stride);
    return MB_OK;
  }
  const real *shift = stats, *inverse = shift + rows;
  real scale = *(const real *)dout * shift[2 * rows];
  int64_t step = dlogits == logits ? stride : columns;
#pragma omp parallel for schedule(static) if (rows * columns >= MBK_PARALLEL_FROM)
  for (int64_t r = 0; r < rows; r++)
    gradient_of_row((real *)dlogits + r * step, accumulate, (const real *)logits + r * stride, targets[r], columns, shift[r], inverse[r], scale,
                    smoothing, ignored);
  return MB_OK;
}
