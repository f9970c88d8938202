// SPDX-License-Identifier: MIT
//
// lapack.c: small symmetric eigenproblems, singular value decompositions and factorisations through LAPACK. Its matrices
// are column-major: a row-major matrix given to it is its transpose, and an eigenvector column comes back as a row.
#include "backend/cpu/lapack.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

// ----- small matrices of a sketch ---------------------------------------------------------------------------

size_t mbi_small_bytes(int64_t q) {
  size_t n = (size_t)q;
  return (4 * n * n + 7 * n + 1) * sizeof(double) + (4 + 6 * n) * sizeof(lapack_int); // keeps doubles aligned
}

// a (q, q) becomes its eigenvectors, one a row, their values ascending. work: mbi_small_bytes less 2 q^2 doubles.
static int eigen(double *values, double *a, lapack_int q, double *work) {
  lapack_int lwork = 1 + 6 * q + 2 * q * q;
  return LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', q, a, q, values, work, lwork, (lapack_int *)(void *)(work + lwork), 3 + 5 * q);
}

static int is_finite_diagonal(const double *a, int64_t q) {
  for (int64_t i = 0; i < q; i++)
    if (!isfinite(a[i * q + i])) return 0;
  return 1;
}

int mbi_align(double *a, double sizes[2], double *gram, int64_t q, void *work) {
  double *values = work;
  sizes[0] = sizes[1] = NAN;
  memset(a, 0, (size_t)(q * q) * sizeof *a);
  if (!is_finite_diagonal(gram, q)) return 0;
  if (eigen(values, gram, (lapack_int)q, values + q) != 0) return 1;
  double largest = values[q - 1] > 0 ? values[q - 1] : 0;
  sizes[0] = sqrt(largest);
  sizes[1] = values[0] > 0 ? sqrt(values[0]) : 0;
  for (int64_t i = 0; i < q && largest > 0; i++) {
    double value = values[q - 1 - i], least = 1e-18 * largest; // below, values are rounding
    double factor = 1 / sqrt(value > least ? value : least);
    for (int64_t j = 0; j < q; j++) a[i * q + j] = factor * gram[(q - 1 - i) * q + j];
  }
  return 0;
}

void mbi_orthonormal(double *a, double *gram, int64_t q, double cut, double floor) {
  const double least = floor * gram[0];
  memset(a, 0, (size_t)(q * q) * sizeof *a);
  for (int64_t i = 0; i < q; i++) {
    double *row = gram + i * q, length = row[i], rest = length; // row i of the factor replaces row i of gram
    for (int64_t j = 0; j < i; j++) {
      double dot = row[j];
      const double *other = gram + j * q;
      for (int64_t k = 0; k < j; k++) dot -= row[k] * other[k];
      row[j] = other[j] > 0 ? dot / other[j] : 0;
      rest -= row[j] * row[j];
    }
    row[i] = rest > cut * length && rest > least && length > 0 ? sqrt(rest) : 0;
    if (row[i] == 0) {
      for (int64_t j = 0; j < i; j++) row[j] = 0;
      continue;
    }
    // Row i of the inverse: (e_i - sum over j < i of row[j] a_j) / row[i]
    double *inverse = a + i * q;
    for (int64_t j = 0; j < i; j++)
      for (int64_t k = 0; k <= j; k++) inverse[k] -= row[j] * a[j * q + k];
    inverse[i] = 1;
    for (int64_t k = 0; k <= i; k++) inverse[k] /= row[i];
  }
}

int mbi_ritz(double *w, double *sigma, double *gram_y, double *gram_t, int64_t n, double cut, double floor, void *work) {
  lapack_int q = (lapack_int)n;
  double *a = work, *product = a + n * n, *values = product + n * n;
  if (!is_finite_diagonal(gram_y, n) || !is_finite_diagonal(gram_t, n)) {
    for (int64_t j = 0; j < n; j++) sigma[j] = NAN;
    memset(w, 0, (size_t)(n * n) * sizeof *w);
    return 0;
  }
  mbi_orthonormal(a, gram_y, n, cut, floor);
  // gram of a t, its eigenvectors z, w = z a
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, q, q, q, 1, a, q, gram_t, q, 0, product, q);
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, q, q, q, 1, product, q, a, q, 0, gram_t, q);
  if (eigen(values, gram_t, q, values + n) != 0) return 1;
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, q, q, q, 1, gram_t, q, a, q, 0, product, q);
  for (int64_t i = 0; i < n; i++) {
    double value = values[n - 1 - i];
    sigma[i] = value > 0 ? sqrt(value) : 0;
    for (int64_t j = 0; j < n; j++) w[i * n + j] = value > 0 ? product[(n - 1 - i) * n + j] : 0;
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

// factor: k rows of reflectors, then the diagonal, the off-diagonal, the reflectors' factors and the eigenvalues.
int mbi_eigenvalues(double *factor, int64_t k, void *work) {
  lapack_int n = (lapack_int)k;
  double *diagonal = factor + k * k, *off = diagonal + k, *tau = off + k, *values = tau + k, *copy = work;
  if (LAPACKE_dsytrd_work(LAPACK_COL_MAJOR, 'L', n, factor, n, diagonal, off, tau, copy + k, n * TRD_BLOCK) != 0) return 1;
  memcpy(values, diagonal, (size_t)k * sizeof(double));
  memcpy(copy, off, (size_t)k * sizeof(double));
  return LAPACKE_dsterf_work(n, values, copy) != 0;
}

size_t mbi_eigenvectors_bytes(int64_t k) {
  return (size_t)(2 * k * k + (7 + TRD_BLOCK) * k + 1) * sizeof(double) + (size_t)(4 + 6 * k) * sizeof(lapack_int);
}

typedef struct tridiagonal {
  lapack_int n, lwork;
  const double *diagonal, *off, *values;
  double *d, *e, *all, *work; // copies (n) that LAPACK overwrites; room (n, n); lwork
  lapack_int *iwork;          // 6 n + 4
} tridiagonal;

static void refresh(tridiagonal *t) {
  memcpy(t->d, t->diagonal, (size_t)t->n * sizeof(double));
  memcpy(t->e, t->off, (size_t)t->n * sizeof(double));
}

// The c last eigenvectors by inverse iteration: cheap while c is small.
static int few_vectors(double *z, tridiagonal *t, lapack_int c) {
  lapack_int *block = t->iwork, *split = block + t->n, *failed = split + t->n, *iwork = failed + t->n;
  for (lapack_int i = 0; i < c; i++) block[i] = 1;
  split[0] = t->n;
  refresh(t);
  return LAPACKE_dstein_work(LAPACK_COL_MAJOR, t->n, t->d, t->e, c, t->values + t->n - c, block, split, z, t->n, t->work, iwork, failed) != 0;
}

// All of them by divide and conquer, of which the last are kept.
static int many_vectors(double *z, tridiagonal *t, lapack_int c) {
  lapack_int n = t->n;
  refresh(t);
  if (LAPACKE_dstedc_work(LAPACK_COL_MAJOR, 'I', n, t->d, t->e, t->all, n, t->work, 1 + 4 * n + n * n, t->iwork, 3 + 5 * n) != 0) return 1;
  memcpy(z, t->all + (int64_t)(n - c) * n, (size_t)c * (size_t)n * sizeof(double));
  return 0;
}

int mbi_eigenvectors(double *z, const double *factor, int64_t k, int64_t c, void *work) {
  lapack_int n = (lapack_int)k, wanted = (lapack_int)c;
  const double *diagonal = factor + k * k, *off = diagonal + k, *tau = off + k;
  tridiagonal t = {.n = n, .lwork = n * n + (5 + TRD_BLOCK) * n + 1, .diagonal = diagonal, .off = off, .values = tau + k, .d = work};
  t.e = t.d + k;
  t.all = t.e + k;
  t.work = t.all + k * k;
  t.iwork = (lapack_int *)(void *)(t.work + t.lwork);
  if (4 * c > k || few_vectors(z, &t, wanted) != 0)
    if (many_vectors(z, &t, wanted) != 0) return 1;
  return LAPACKE_dormtr_work(LAPACK_COL_MAJOR, 'L', 'L', 'N', n, wanted, factor, n, tau, z, n, t.work, t.lwork) != 0;
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
  lapack_int info = LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, v ? 'S' : 'N', (lapack_int)n, (lapack_int)m, a, (lapack_int)n, s, left,
                                        (lapack_int)n, u, (lapack_int)k, rest, lwork, iwork);
  for (int64_t i = 0; v && i < n; i++)
    for (int64_t j = 0; j < k; j++) v[i * k + j] = left[j * n + i];
  return info != 0;
}

int mbi_svd_f64(double *u, double *s, double *v, double *a, int64_t m, int64_t n, void *work, size_t bytes) {
  int64_t k = m < n ? m : n;
  lapack_int *iwork = work;
  double *left = (double *)(void *)(iwork + 8 * k), *rest = left + (v ? n * k : 0);
  lapack_int lwork = (lapack_int)(((char *)work + bytes - (char *)rest) / (int64_t)sizeof(double));
  lapack_int info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, v ? 'S' : 'N', (lapack_int)n, (lapack_int)m, a, (lapack_int)n, s, left,
                                        (lapack_int)n, u, (lapack_int)k, rest, lwork, iwork);
  for (int64_t i = 0; v && i < n; i++)
    for (int64_t j = 0; j < k; j++) v[i * k + j] = left[j * n + i];
  return info != 0;
}

// ----- factorisations of either dtype ----------------------------------------------------------------------------

enum { QR_BLOCK = 64 };

size_t mbi_qr_bytes(int64_t m, int64_t n, size_t element) {
  return (size_t)((m < n ? m : n) + n * QR_BLOCK) * element;
}

// LAPACK sees A^T (n, m) = L Q^T, an LQ factorisation: its factor L is R row by row, its Q is Q row by row.
int mbi_qr(void *q, void *a, int64_t m, int64_t n, void *work, size_t element) {
  lapack_int rows = (lapack_int)n, columns = (lapack_int)m, k = rows < columns ? rows : columns, lwork = rows * QR_BLOCK;
  void *tau = work, *rest = (char *)work + (size_t)k * element;
  int wide = element == sizeof(double);
  lapack_int info = wide ? LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, rows, columns, a, rows, tau, rest, lwork)
                         : LAPACKE_sgelqf_work(LAPACK_COL_MAJOR, rows, columns, a, rows, tau, rest, lwork);
  for (int64_t i = 0; i < m; i++) memcpy((char *)q + (size_t)(i * k) * element, (char *)a + (size_t)(i * n) * element, (size_t)k * element);
  if (info == 0)
    info = wide ? LAPACKE_dorglq_work(LAPACK_COL_MAJOR, k, columns, k, q, k, tau, rest, lwork)
                : LAPACKE_sorglq_work(LAPACK_COL_MAJOR, k, columns, k, q, k, tau, rest, lwork);
  return info != 0;
}

size_t mbi_eigh_bytes(int64_t n, size_t element) {
  size_t side = (size_t)n;
  return (1 + 6 * side + 2 * side * side) * element + (4 + 5 * side) * sizeof(lapack_int);
}

int mbi_eigh(void *values, void *a, int64_t n, int vectors, void *work, size_t element) {
  lapack_int side = (lapack_int)n, lwork = 1 + 6 * side + 2 * side * side, liwork = 3 + 5 * side;
  lapack_int *iwork = (lapack_int *)(void *)((char *)work + (size_t)lwork * element);
  char job = vectors ? 'V' : 'N';
  return element == sizeof(double) ? LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, job, 'U', side, a, side, values, work, lwork, iwork, liwork) != 0
                                   : LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, job, 'U', side, a, side, values, work, lwork, iwork, liwork) != 0;
}

int64_t mbi_cholesky(void *a, int64_t n, size_t element) {
  lapack_int side = (lapack_int)n;
  return element == sizeof(double) ? LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', side, a, side)
                                   : LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'U', side, a, side);
}
