// SPDX-License-Identifier: MIT
//
// gram.c: eigenvalues and eigenvectors of G^T G (or G G^T, whichever is smaller), and plain singular value
// decompositions. The Gram matrix is formed in float64 also from float32: its eigenvalues are squares, so a
// singular value s of a float32 matrix comes out to about 1e-16 s_1^2 / s, far below the matrix's own rounding.
// Eigenvectors wait until it is known how many are wanted. One thread a matrix, so that bits depend on nothing else.
#include "backend/cpu/cpu.h"
#include "backend/cpu/lapack.h"

enum { CHUNK = 256 }; // rows (or columns) of G converted at a time

// s (k, k), upper triangle = (scale g)^T (scale g), or (scale g)(scale g)^T when m < n.
static void gram_of(double *s, const real *g, double scale, int64_t m, int64_t n, double *chunk) {
  int64_t k = m < n ? m : n, rows = m < n ? n : m;
  for (int64_t i = 0; i < k * k; i++) s[i] = 0;
  for (int64_t start = 0; start < rows; start += CHUNK) {
    int64_t width = rows - start < CHUNK ? rows - start : CHUNK;
    if (m >= n) {
      for (int64_t i = 0; i < width * n; i++) chunk[i] = scale * (double)g[start * n + i];
    } else {
      for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < width; j++) chunk[i * width + j] = scale * (double)g[i * n + start + j];
    }
    mbi_syrk(s, chunk, k, width, m < n);
  }
}

mb_status MBK(gram_factor)(const mbi_gram *s) {
  int64_t k = s->k;
  size_t bytes = mbi_eigenvalues_bytes(k), chunk = (size_t)(CHUNK * k) * sizeof(double), mine = bytes > chunk ? bytes : chunk;
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t i = 0; i < s->count; i++) {
    void *work = (char *)memory + mine * (size_t)omp_get_thread_num();
    double *factor = s->factor + i * (k + 4) * k, *values = factor + (k + 3) * k;
    gram_of(factor, s->g[i], s->scale[i], s->m, s->n, work);
    if (mbi_eigenvalues(factor, k, work) != 0) failed = 1;
    for (int64_t j = 0; j < k; j++) s->sigma[i * k + j] = values[k - 1 - j] > 0 ? sqrt(values[k - 1 - j]) : 0;
  }
  if (failed) MB_FAIL(MB_ERR_NUMERIC, "singular values of matrices (%lld, %lld) did not converge", (long long)s->m, (long long)s->n);
  return MB_OK;
}

mb_status MBK(gram_vectors)(const mbi_gram *s, const int64_t *c, void *const *vectors) {
  int64_t k = s->k, most = 0;
  for (int64_t i = 0; i < s->count; i++) most = c[i] > most ? c[i] : most;
  if (most == 0) return MB_OK;
  size_t mine = mbi_eigenvectors_bytes(k) + (size_t)(most * k) * sizeof(double);
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t i = 0; i < s->count; i++) {
    if (c[i] == 0) continue;
    double *z = (double *)(void *)((char *)memory + mine * (size_t)omp_get_thread_num());
    if (mbi_eigenvectors(z, s->factor + i * (k + 4) * k, k, c[i], z + most * k) != 0) failed = 1;
    for (int64_t row = 0; row < c[i]; row++)
      for (int64_t j = 0; j < k; j++) ((real *)vectors[i])[row * k + j] = (real)z[(c[i] - 1 - row) * k + j];
  }
  if (failed) MB_FAIL(MB_ERR_NUMERIC, "singular vectors of matrices (%lld, %lld) did not converge", (long long)s->m, (long long)s->n);
  return MB_OK;
}

mb_status MBK(svd)(void *u, void *s, void *v, void *a, int64_t m, int64_t n, int64_t count) {
  int64_t k = m < n ? m : n;
  size_t mine = (mbi_svd_bytes(m, n, v != NULL, sizeof(real)) + 63) / 64 * 64;
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t i = 0; i < count; i++) {
    void *work = (char *)memory + mine * (size_t)omp_get_thread_num();
    real *left = u ? (real *)u + i * m * k : NULL, *right = v ? (real *)v + i * n * k : NULL;
#if MBK_REAL == 64
    if (mbi_svd_f64(left, (real *)s + i * k, right, (real *)a + i * m * n, m, n, work, mine) != 0) failed = 1;
#else
    if (mbi_svd_f32(left, (real *)s + i * k, right, (real *)a + i * m * n, m, n, work, mine) != 0) failed = 1;
#endif
  }
  if (failed) MB_FAIL(MB_ERR_NUMERIC, "svd of (%lld, %lld) did not converge", (long long)m, (long long)n);
  return MB_OK;
}
