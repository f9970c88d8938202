// SPDX-License-Identifier: MIT
//
// lapack.c: small symmetric eigenproblems and singular value decompositions through LAPACK. Its matrices are
// column-major: a row-major matrix given to it is its transpose, and an eigenvector column comes back as a row.
#include "backend/cpu/lapack.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

// ----- Ritz values ----------------------------------------------------------------------------------------

size_t mbi_ritz_bytes(int64_t q) {
  size_t n = (size_t)q;
  return (4 * n * n + 8 * n + 1) * sizeof(double) + (4 + 6 * n) * sizeof(lapack_int); // keeps doubles aligned
}

typedef struct ritz {
  lapack_int q, lwork, liwork;
  double *d, *y, *t, *values, *work; // d (q), y, t (q, q): both scaled by d on either side
  lapack_int *iwork;
} ritz;

// One Cholesky factor for both sides: T w = sigma^2 Y w as LAPACK solves it. Not 0 when Y is too nearly singular.
static int ritz_cholesky(ritz *p, double cut) {
  lapack_int q = p->q;
  if (LAPACKE_dsygvd_work(LAPACK_COL_MAJOR, 1, 'V', 'L', q, p->t, q, p->y, q, p->values, p->work, p->lwork, p->iwork, p->liwork) != 0) return 1;
  for (lapack_int i = 0; i < q; i++)
    if (p->y[i * q + i] * p->y[i * q + i] < cut) return 1;
  return 0;
}

// On the eigenvectors of Y whose eigenvalues count: e (q, k) = z / sqrt(value), then T seen through e. The k
// solutions are left in p->t, ascending; returns k, or -1.
static lapack_int ritz_eigen(ritz *p, double cut, double *e, double *product) {
  lapack_int q = p->q, k = 0;
  if (LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', q, p->y, q, p->values, p->work, p->lwork, p->iwork, p->liwork) != 0) return -1;
  for (lapack_int j = 0; j < q; j++) {
    if (!(p->values[j] > cut)) continue;
    double factor = 1 / sqrt(p->values[j]);
    for (lapack_int i = 0; i < q; i++) e[k * q + i] = factor * p->y[j * q + i];
    k++;
  }
  if (k == 0) return 0;
  double *small = p->y; // (k, k)
  cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, q, k, q, 1, p->t, q, e, q, 0, product, q);
  cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, k, k, q, 1, e, q, product, q, 0, small, k);
  if (LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', k, small, k, p->values, p->work, p->lwork, p->iwork, p->liwork) != 0) return -1;
  cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, q, k, k, 1, e, q, small, k, 0, p->t, q);
  return k;
}

int mbi_ritz(double *w, double *sigma, double *gram_y, double *gram_t, int64_t n, double cut, void *work) {
  size_t square = (size_t)(n * n);
  lapack_int q = (lapack_int)n;
  ritz p = {.q = q, .lwork = 1 + 6 * q + 2 * q * q, .liwork = 3 + 5 * q, .d = work, .y = gram_y, .t = gram_t};
  p.values = p.d + n;
  double *y_kept = p.values + n, *t_kept = y_kept + square;
  p.work = t_kept + square;
  p.iwork = (lapack_int *)(void *)(p.work + p.lwork);

  for (int64_t i = 0; i < n; i++) {
    double yy = gram_y[i * n + i], tt = gram_t[i * n + i];
    if (!isfinite(yy) || !isfinite(tt)) {
      for (int64_t j = 0; j < n; j++) sigma[j] = NAN;
      memset(w, 0, square * sizeof(double));
      return 0;
    }
    p.d[i] = yy > 0 ? 1 / sqrt(yy) : 0;
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      double scale = p.d[i] * p.d[j];
      y_kept[i * n + j] = gram_y[i * n + j] = i == j && p.d[i] == 0 ? 1 : scale * gram_y[i * n + j]; // a zero row is set apart
      t_kept[i * n + j] = gram_t[i * n + j] *= scale;
    }
  lapack_int found = q;
  if (ritz_cholesky(&p, cut) != 0) {
    memcpy(p.y, y_kept, square * sizeof(double));
    memcpy(p.t, t_kept, square * sizeof(double));
    found = ritz_eigen(&p, cut, y_kept, t_kept);
    if (found < 0) return 1;
  }
  for (lapack_int i = 0; i < q; i++) {
    double value = i < found ? p.values[found - 1 - i] : 0;
    sigma[i] = value > 0 ? sqrt(value) : 0;
    for (lapack_int j = 0; j < q; j++) w[i * q + j] = value > 0 ? p.d[j] * p.t[(found - 1 - i) * q + j] : 0;
  }
  return 0;
}

// ----- symmetric eigenproblems -------------------------------------------------------------------------------

void mbi_syrk(double *s, const double *a, int64_t k, int64_t rows, int transposed) {
  cblas_dsyrk(CblasRowMajor, CblasUpper, transposed ? CblasNoTrans : CblasTrans, (lapack_int)k, (lapack_int)rows, 1, a,
              (lapack_int)(transposed ? rows : k), 1, s, (lapack_int)k);
}

enum { TRD_BLOCK = 64 };

size_t mbi_eigenvalues_bytes(int64_t k) { return (size_t)(k * (TRD_BLOCK + 1)) * sizeof(double); }

// factor: k rows of reflectors, then the diagonal, the off-diagonal and the reflectors' factors.
int mbi_eigenvalues(double *values, double *factor, int64_t k, void *work) {
  lapack_int n = (lapack_int)k;
  double *diagonal = factor + k * k, *off = diagonal + k, *tau = off + k, *copy = work;
  if (LAPACKE_dsytrd_work(LAPACK_COL_MAJOR, 'L', n, factor, n, diagonal, off, tau, copy + k, n * TRD_BLOCK) != 0) return 1;
  memcpy(values, diagonal, (size_t)k * sizeof(double));
  memcpy(copy, off, (size_t)k * sizeof(double));
  return LAPACKE_dsterf_work(n, values, copy) != 0;
}

size_t mbi_eigenvectors_bytes(int64_t k, int64_t c) {
  return (size_t)(k * k + 22 * k + TRD_BLOCK * (k + c)) * sizeof(double) + (size_t)(12 * k) * sizeof(lapack_int);
}

int mbi_eigenvectors(double *z, const double *factor, int64_t k, int64_t c, void *work) {
  lapack_int n = (lapack_int)k, wanted = (lapack_int)c, found = 0, lwork = (lapack_int)(18 * k + TRD_BLOCK * (k + c));
  const double *diagonal = factor + k * k, *off = diagonal + k, *tau = off + k;
  double *d = work, *e = d + k, *values = e + k, *all = values + k, *rest = all + k * k;
  lapack_int *support = (lapack_int *)(void *)(rest + lwork), *iwork = support + 2 * k;
  memcpy(d, diagonal, (size_t)k * sizeof(double));
  memcpy(e, off, (size_t)k * sizeof(double));
  lapack_logical check = 1;
  lapack_int info = LAPACKE_dstemr_work(LAPACK_COL_MAJOR, 'V', 'I', n, d, e, 0, 0, n - wanted + 1, n, &found, values, z, n, wanted, support,
                                        &check, rest, lwork, iwork, 10 * n);
  if (info != 0 || found != wanted) { // the QR iteration always converges, at a price
    memcpy(d, diagonal, (size_t)k * sizeof(double));
    memcpy(e, off, (size_t)k * sizeof(double));
    if (LAPACKE_dsteqr_work(LAPACK_COL_MAJOR, 'I', n, d, e, all, n, rest) != 0) return 1;
    memcpy(z, all + (k - c) * k, (size_t)(c * k) * sizeof(double));
  }
  return LAPACKE_dormtr_work(LAPACK_COL_MAJOR, 'L', 'L', 'N', n, wanted, factor, n, tau, z, n, rest, lwork) != 0;
}

// ----- singular value decompositions ----------------------------------------------------------------------------
// A row-major (m, n) is the column-major (n, m) A^T = V S U^T: LAPACK's left factor is V, its right factor
// transposed is U, and row-major (m, k) is how that lies in memory.

size_t mbi_svd_bytes(int64_t m, int64_t n, int vectors, size_t element) {
  size_t k = (size_t)(m < n ? m : n), most = (size_t)(m < n ? n : m);
  size_t work = vectors ? 4 * k * k + 8 * k : 8 * k; // gesdd's least
  return 8 * k * sizeof(lapack_int) + (work + 64 * (k + most) + (vectors ? (size_t)n * k : 0)) * element + 64;
}

int mbi_svd_f32(float *u, float *s, float *v, float *a, int64_t m, int64_t n, void *work, size_t bytes) {
  int64_t k = m < n ? m : n;
  lapack_int *iwork = work;
  float *left = (float *)(void *)(iwork + 8 * k), *rest = left + (v ? n * k : 0);
  lapack_int lwork = (lapack_int)(((char *)work + bytes - (char *)rest) / (int64_t)sizeof(float));
  lapack_int info = LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, v ? 'S' : 'N', (lapack_int)n, (lapack_int)m, a, (lapack_int)n, s, left, (lapack_int)n,
                                        u, (lapack_int)k, rest, lwork, iwork);
  for (int64_t i = 0; v && i < n; i++)
    for (int64_t j = 0; j < k; j++) v[i * k + j] = left[j * n + i];
  return info != 0;
}

int mbi_svd_f64(double *u, double *s, double *v, double *a, int64_t m, int64_t n, void *work, size_t bytes) {
  int64_t k = m < n ? m : n;
  lapack_int *iwork = work;
  double *left = (double *)(void *)(iwork + 8 * k), *rest = left + (v ? n * k : 0);
  lapack_int lwork = (lapack_int)(((char *)work + bytes - (char *)rest) / (int64_t)sizeof(double));
  lapack_int info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, v ? 'S' : 'N', (lapack_int)n, (lapack_int)m, a, (lapack_int)n, s, left, (lapack_int)n,
                                        u, (lapack_int)k, rest, lwork, iwork);
  for (int64_t i = 0; v && i < n; i++)
    for (int64_t j = 0; j < k; j++) v[i * k + j] = left[j * n + i];
  return info != 0;
}
