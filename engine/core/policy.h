// SPDX-License-Identifier: MIT
//
// policy.h: the built-in threshold policies on rows of float64, one threshold after another: what lua/moonbow/threshold
// says sample by sample, for the host and every device. A row, in the order of mb_spectral_policy_state:
//
//   CONST     nothing, and so MAX_NORM
//   EMA       m, k
//   QUANTILE  n, the n last values, oldest first, in room for `window`; behind it the same values in ascending order
//   ZSCORE    n, mean, variance
//
// NaN is "leave alone".
#ifndef MBI_POLICY_H
#define MBI_POLICY_H
#include <float.h>
#include <math.h>

#include "core/rng.h"
#include "moonbow.h"

// Numbers of a row on the device, and of the part that a state is.
MBI_EVERYWHERE static inline int64_t mbi_policy_width(const mb_policy_options *o) {
  switch (o->kind) {
    case MB_POLICY_EMA: return 2;
    case MB_POLICY_QUANTILE: return 1 + o->window;
    case MB_POLICY_ZSCORE: return 3;
    default: return 0;
  }
}
MBI_EVERYWHERE static inline int64_t mbi_policy_row(const mb_policy_options *o) {
  return o->kind == MB_POLICY_QUANTILE ? 1 + 2 * o->window : mbi_policy_width(o);
}

// Enters x into ascending numbers; takes an equal one out of them.
MBI_EVERYWHERE static inline void mbi_policy_insert(double *sorted, int64_t n, double x) {
  int64_t at = n;
  for (; at > 0 && sorted[at - 1] > x; at--) sorted[at] = sorted[at - 1];
  sorted[at] = x;
}
MBI_EVERYWHERE static inline void mbi_policy_remove(double *sorted, int64_t n, double x) {
  int64_t at = 0;
  while (at < n - 1 && sorted[at] != x) at++;
  for (; at < n - 1; at++) sorted[at] = sorted[at + 1];
}

MBI_EVERYWHERE static inline double mbi_policy_quantile(const mb_policy_options *o, double *row, double sigma) {
  int64_t n = (int64_t)row[0], window = o->window;
  double *history = row + 1, *sorted = history + window;
  double tau = n > 0 ? sorted[(int64_t)floor(o->q * (double)(n - 1))] : (double)NAN;
  if (n == window) {
    mbi_policy_remove(sorted, n--, history[0]);
    for (int64_t i = 0; i < n; i++) history[i] = history[i + 1];
  }
  history[n] = sigma;
  mbi_policy_insert(sorted, n, sigma);
  row[0] = (double)(n + 1);
  return tau;
}

MBI_EVERYWHERE static inline double mbi_policy_ema(const mb_policy_options *o, double *row, double sigma) {
  double tau = row[1] > 0 ? row[0] / (1 - pow(o->beta, row[1])) : sigma;
  row[0] = o->beta * row[0] + (1 - o->beta) * sigma;
  row[1] += 1;
  return tau;
}

MBI_EVERYWHERE static inline double mbi_policy_zscore(const mb_policy_options *o, double *row, double sigma) {
  double mean = row[1];
  if (row[0] < (double)o->warmup) {
    double change = sigma - mean, n = row[0] + 1;
    mean += change / n;
    row[2] += (change * (sigma - mean) - row[2]) / n;
    row[0] = n, row[1] = mean;
    return (double)NAN;
  }
  double std = sqrt(row[2]), spread = o->z * (std + o->epsilon), tau = mean + spread;
  if (sigma > tau)
    tau = o->to == MB_ZSCORE_MEAN ? mean : o->to == MB_ZSCORE_BOUND ? mean + o->z * std : mean + o->z * std * spread / (sigma - mean);
  double kept = sigma < tau ? sigma : tau;
  mean = o->alpha * mean + (1 - o->alpha) * kept;
  row[2] = o->alpha * row[2] + (1 - o->alpha) * ((kept - mean) * (kept - mean));
  row[0] += 1, row[1] = mean;
  return tau;
}

// tau of a finite sample, which enters the row.
MBI_EVERYWHERE static inline double mbi_policy_ask(const mb_policy_options *o, double *row, double sigma) {
  switch (o->kind) {
    case MB_POLICY_EMA: return mbi_policy_ema(o, row, sigma);
    case MB_POLICY_QUANTILE: return mbi_policy_quantile(o, row, sigma);
    case MB_POLICY_ZSCORE: return mbi_policy_zscore(o, row, sigma);
    default: return o->tau;
  }
}

// What a call that was refused, or not, leaves for the update behind it (autograd/refusal.c).
MBI_EVERYWHERE static inline void mbi_policy_leave(double *refusal, int is_first, int is_refused) {
  if (refusal && (is_refused || is_first)) *refusal = is_refused;
}

// What something of this length is multiplied by, 1 where it stays: tau / (norm + 1e-6), PyTorch's constant.
MBI_EVERYWHERE static inline double mbi_norm_factor(const mb_policy_options *o, double tau, double norm) {
  double factor = tau / (norm + 1e-6);
  int is_lowered = o->kind == MB_POLICY_MAX_NORM ? factor < 1 : norm > tau; // false where tau is NaN
  return is_lowered ? factor : 1;
}
#endif
