// SPDX-License-Identifier: MIT
//
// factor.c: QR, symmetric eigenvalues and Cholesky of many matrices of one shape. LAPACK does the work
// (backend/cpu/lapack.c); here matrices are shared out, one thread a matrix, so that bits depend on nothing else,
// and results are put as the engine wants them: rows of R with a diagonal >= 0, eigenvectors in columns.
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/lapack.h"

// Bytes of one thread's work, so that the next thread's is aligned.
static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// r (k, n) = the upper triangle of a (m, n), and rows of r and columns of q (m, k) turned where the diagonal is negative.
static void upper_of(real *q, real *r, const real *a, int64_t m, int64_t n, int64_t k) {
  for (int64_t i = 0; i < k; i++) {
    real sign = a[i * n + i] < 0 ? -1 : 1;
    for (int64_t j = 0; j < i; j++) r[i * n + j] = 0;
    for (int64_t j = i; j < n; j++) r[i * n + j] = sign * a[i * n + j];
    for (int64_t j = 0; j < m && sign < 0; j++) q[j * k + i] = -q[j * k + i];
  }
}

mb_status MBK(qr)(void *q, void *r, void *a, int64_t m, int64_t n, int64_t count) {
  int64_t k = m < n ? m : n;
  size_t mine = aligned(mbi_qr_bytes(m, n, sizeof(real)));
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t i = 0; i < count; i++) {
    real *matrix = (real *)a + i * m * n, *basis = (real *)q + i * m * k;
    if (mbi_qr(basis, matrix, m, n, (char *)memory + mine * (size_t)omp_get_thread_num(), sizeof(real)) != 0) failed = 1;
    upper_of(basis, (real *)r + i * k * n, matrix, m, n, k);
  }
  if (failed) MB_FAIL(MB_ERR_INTERNAL, "qr of (%lld, %lld): LAPACK refused an argument", (long long)m, (long long)n);
  return MB_OK;
}

mb_status MBK(eigh)(void *values, void *vectors, void *a, int64_t n, int64_t count) {
  size_t mine = aligned(mbi_eigh_bytes(n, sizeof(real)));
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t i = 0; i < count; i++) {
    real *matrix = (real *)a + i * n * n, *columns = vectors ? (real *)vectors + i * n * n : NULL;
    void *work = (char *)memory + mine * (size_t)omp_get_thread_num();
    if (mbi_eigh((real *)values + i * n, matrix, n, vectors != NULL, work, sizeof(real)) != 0) failed = 1;
    for (int64_t row = 0; vectors && row < n; row++)
      for (int64_t j = 0; j < n; j++) columns[row * n + j] = matrix[j * n + row];
  }
  if (failed) MB_FAIL(MB_ERR_NUMERIC, "eigenvalues of (%lld, %lld) did not converge", (long long)n, (long long)n);
  return MB_OK;
}

mb_status MBK(cholesky)(int64_t *member, int64_t *minor, void *a, int64_t n, int64_t count) {
  int64_t first = INT64_MAX; // member * (n + 1) + minor of the first failure
#pragma omp parallel for schedule(static) reduction(min : first)
  for (int64_t i = 0; i < count; i++) {
    real *matrix = (real *)a + i * n * n;
    int64_t bad = mbi_cholesky(matrix, n, sizeof(real));
    if (bad != 0 && i * (n + 1) + bad < first) first = i * (n + 1) + bad;
    for (int64_t row = 0; row < n; row++) memset(matrix + row * n + row + 1, 0, (size_t)(n - row - 1) * sizeof(real));
  }
  *member = first == INT64_MAX ? -1 : first / (n + 1);
  *minor = first == INT64_MAX ? -1 : first % (n + 1);
  return MB_OK;
}
