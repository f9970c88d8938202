// SPDX-License-Identifier: MIT
//
// spectra.h: matrices with known singular values, for the C tests of clipping. A = U diag(s) V^T is built in
// float64 from random orthonormal columns (Gram and Schmidt, twice), so the right answer of any change of
// singular values is known without a decomposition.
#ifndef MB_SPECTRA_H
#define MB_SPECTRA_H
#include "check.h"
#include "seed.h"

typedef struct known {
  int64_t m, n, k;      // k = min(m, n)
  double *u, *s, *v;    // columns of u (k, m) and v (k, n) as rows; s (k) descending
} known;

static inline double gauss(void) { return sqrt(-2 * log(seed_between(1e-300, 1))) * cos(6.283185307179586 * seed_between(0, 1)); }

// `count` orthonormal vectors of length n, one a row.
static inline double *orthonormal(int64_t count, int64_t n) {
  double *q = malloc((size_t)(count * n) * sizeof *q);
  for (int64_t i = 0; i < count; i++) {
    double *row = q + i * n;
    for (int64_t j = 0; j < n; j++) row[j] = gauss();
    for (int pass = 0; pass < 2; pass++)
      for (int64_t other = 0; other < i; other++) {
        double dot = 0;
        for (int64_t j = 0; j < n; j++) dot += row[j] * q[other * n + j];
        for (int64_t j = 0; j < n; j++) row[j] -= dot * q[other * n + j];
      }
    double norm = 0;
    for (int64_t j = 0; j < n; j++) norm += row[j] * row[j];
    for (int64_t j = 0; j < n; j++) row[j] /= sqrt(norm);
  }
  return q;
}

// Orthonormal factors and room for k singular values, which the caller fills in.
static inline known known_new(int64_t m, int64_t n) {
  known a = {.m = m, .n = n, .k = m < n ? m : n};
  a.u = orthonormal(a.k, m);
  a.v = orthonormal(a.k, n);
  a.s = calloc((size_t)a.k, sizeof *a.s);
  return a;
}

static inline void known_free(known *a) { free(a->u), free(a->s), free(a->v); }

enum spectrum { FLAT, GEOMETRIC, STEEP, CAUCHY, DEFICIENT, REPEATED, ZERO, SPECTRUM_COUNT };
static const char *const spectrum_names[] = {"flat", "geometric", "steep", "cauchy", "deficient", "repeated", "zero"};

static inline int falling(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x < y) - (x > y);
}

static inline void known_fill(known *a, enum spectrum kind) {
  for (int64_t i = 0; i < a->k; i++) {
    double x = (double)i;
    switch (kind) {
      case FLAT: a->s[i] = 1 + seed_between(0, 0.01); break;
      case GEOMETRIC: a->s[i] = 3 * pow(0.8, x); break;
      case STEEP: a->s[i] = 3 * pow(0.1, x); break;
      case CAUCHY: a->s[i] = fabs(tan(1.5707 * seed_between(-1, 1))); break;
      case DEFICIENT: a->s[i] = i < (a->k + 2) / 3 ? seed_between(0.5, 2) : 0; break;
      case REPEATED: a->s[i] = i < a->k / 2 ? 2 : 0.25; break;
      default: a->s[i] = 0;
    }
  }
  qsort(a->s, (size_t)a->k, sizeof *a->s, falling);
}

// U diag(values) V^T * scale, row-major (m, n); to be freed.
static inline double *compose(const known *a, const double *values, double scale) {
  double *g = calloc((size_t)a->m, (size_t)a->n * sizeof *g);
  for (int64_t i = 0; i < a->k; i++)
    for (int64_t r = 0; r < a->m; r++)
      for (int64_t c = 0; c < a->n; c++) g[r * a->n + c] += scale * values[i] * a->u[i * a->m + r] * a->v[i * a->n + c];
  return g;
}

static inline mb_tensor *tensor_of(const double *values, mb_dtype dtype, int64_t m, int64_t n) {
  mb_tensor *wide, *t;
  CHECK_OK(mb_from_host(&wide, MB_F64, 2, (int64_t[]){m, n}, MB_CPU, values));
  CHECK_OK(mb_cast(&t, wide, dtype));
  mb_tensor_release(wide);
  return t;
}

static inline double *doubles_of(mb_tensor *t) {
  mb_tensor *wide;
  double *values = malloc((size_t)mb_tensor_numel(t) * sizeof *values);
  CHECK_OK(mb_cast(&wide, t, MB_F64));
  CHECK_OK(mb_tensor_to_host(values, wide));
  mb_tensor_release(wide);
  return values;
}

// Frobenius distance of a tensor from the wanted values.
static inline double distance_of(mb_tensor *t, const double *wanted) {
  double *values = doubles_of(t), sum = 0;
  for (int64_t i = 0; i < mb_tensor_numel(t); i++) sum += (values[i] - wanted[i]) * (values[i] - wanted[i]);
  free(values);
  return sqrt(sum);
}

static inline mb_spectral *plan_of(mb_tensor *const *matrices, int64_t count, mb_spectral_method method, int64_t rank, int64_t oversample,
                                   int64_t power_iters) {
  mb_spectral *plan;
  mb_spectral_options options = {method, rank, oversample, power_iters, 0, 0};
  CHECK_OK(mb_spectral_new(&plan, matrices, count, &options));
  return plan;
}
#endif
