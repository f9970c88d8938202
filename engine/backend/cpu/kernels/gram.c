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
  int64_t k = s->k, *members, count;
  size_t bytes = mbi_eigenvalues_bytes(k), chunk = (size_t)(CHUNK * k) * sizeof(double), mine = bytes > chunk ? bytes : chunk;
  void *memory;
  MB_TRY(mbk_members(&members, &count, &s->mask, s->count));
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t at = 0; at < count; at++) {
    int64_t i = members[at];
    void *work = (char *)memory + mine * (size_t)omp_get_thread_num();
    double *factor = s->factor + i * (k + 4) * k, *values = factor + (k + 3) * k;
    gram_of(factor, s->g[i], s->scale[i], s->m, s->n, work);
    if (mbi_eigenvalues(factor, k, work) != 0) failed = 1;
    for (int64_t j = 0; j < k; j++) s->sigma[i * k + j] = values[k - 1 - j] > 0 ? sqrt(values[k - 1 - j]) : 0;
  }
  if (failed) MB_FAIL(MB_ERR_NUMERIC, "singular values of matrices (%lld, %lld) did not converge", (long long)s->m, (long long)s->n);
  return MB_OK;
}

// ----- changes ------------------------------------------------------------------------------------------

// Directions up to the last one with a gain.
static int64_t changed_of(const mbi_gram *s, const double *gain, int64_t i) {
  int64_t changed = s->k;
  while (changed > 0 && gain[i * s->k + changed - 1] == 0) changed--;
  return changed;
}

// e (changed, k) of matrix i: eigenvectors of the largest eigenvalues, one a row. `work` holds most k numbers and LAPACK's.
static int vectors_of(real *e, const mbi_gram *s, int64_t i, int64_t changed, int64_t most, double *work) {
  int64_t k = s->k;
  int failed = mbi_eigenvectors(work, s->factor + i * (k + 4) * k, k, changed, work + most * k);
  for (int64_t row = 0; row < changed; row++)
    for (int64_t j = 0; j < k; j++) e[row * k + j] = (real)work[(changed - 1 - row) * k + j];
  return failed;
}

// Where G is tall e holds V: diag(sigma) U^T = e G^T, and G += (e G^T)^T (diag(gain) e); else U, and diag(sigma) V^T = e G.
// scaled (changed, k) and product (changed, max(m, n)) are room.
static mb_status change(const mbi_gram *s, int64_t i, int64_t changed, const real *e, const double *gain, real *scaled, real *product) {
  int tall = s->m >= s->n;
  int64_t k = s->k, other = tall ? s->m : s->n;
  for (int64_t row = 0; row < changed; row++)
    for (int64_t j = 0; j < k; j++) scaled[row * k + j] = e[row * k + j] * (real)gain[i * k + row];
  mbi_gemm project = {.m = changed, .n = other, .k = k, .alpha = 1, .a = e, .b = s->g[i], .c = product, .lda = k, .ldb = s->n, .ldc = other,
                      .transpose_b = tall, .batch = 1};
  MB_TRY(MBK(gemm)(&project));
  mbi_gemm update = {.transpose_a = 1, .m = s->m, .n = s->n, .k = changed, .alpha = 1, .beta = 1, .a = tall ? product : scaled,
                     .b = tall ? scaled : product, .c = s->g[i], .lda = s->m, .ldb = s->n, .ldc = s->n, .batch = 1};
  return MBK(gemm)(&update);
}

mb_status MBK(gram_update)(const mbi_gram *s, const double *gain) {
  int64_t k = s->k, most = 0, longer = s->m > s->n ? s->m : s->n, count, *members, n = 0, threads = omp_get_max_threads();
  mbi_mask all = {0};
  MB_TRY(mbk_members(&members, &count, &all, s->count));
  for (int64_t i = 0; i < s->count; i++) {
    int64_t changed = changed_of(s, gain, i);
    if (changed > 0) members[n++] = i;
    most = changed > most ? changed : most;
  }
  if (n == 0) return MB_OK;
  size_t mine = mbi_eigenvectors_bytes(k) + (size_t)(most * k) * sizeof(double);
  void *work, *vectors, *room;
  MB_TRY(mbi_scratch(&work, 0, mine * (size_t)threads));
  MB_TRY(mbi_scratch(&vectors, 1, (size_t)(threads * most * k) * sizeof(real)));
  MB_TRY(mbi_scratch(&room, 2, (size_t)(most * (k + longer)) * sizeof(real)));
  real *e = vectors, *scaled = room, *product = scaled + most * k;
  for (int64_t first = 0; first < n; first += threads) { // as many vectors at a time as there are threads
    int64_t last = first + threads < n ? first + threads : n;
    int failed = 0;
#pragma omp parallel for schedule(static, 1) reduction(max : failed)
    for (int64_t at = first; at < last; at++) {
      double *own = (double *)(void *)((char *)work + mine * (size_t)omp_get_thread_num());
      if (vectors_of(e + (at - first) * most * k, s, members[at], changed_of(s, gain, members[at]), most, own) != 0) failed = 1;
    }
    if (failed) MB_FAIL(MB_ERR_NUMERIC, "singular vectors of matrices (%lld, %lld) did not converge", (long long)s->m, (long long)s->n);
    for (int64_t at = first; at < last; at++)
      MB_TRY(change(s, members[at], changed_of(s, gain, members[at]), e + (at - first) * most * k, gain, scaled, product));
  }
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
