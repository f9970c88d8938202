// SPDX-License-Identifier: MIT
//
// lapack.h: the dense problems of the CPU backend, one at a time: callers share them out among threads, and OpenBLAS
// runs on the calling thread (blas_threads.h). Functions return 0, or not 0 when LAPACK did not converge. Those that
// take `element`, its size, know float32 and float64; work is theirs, of the bytes that the function beside says.
#ifndef MBK_CPU_LAPACK_H
#define MBK_CPU_LAPACK_H
#include <stddef.h>
#include <stdint.h>

// From the Gram matrix of q rows (overwritten), a (q, q) that turns them into their singular directions, the largest
// first, each of about unit length: eigenvectors over the square roots of their eigenvalues. sizes: the largest and the
// smallest of those roots; NaN if the Gram matrix is not finite (a is then 0).
int mbi_align(double *a, double sizes[2], double *gram, int64_t q, void *work);
// From the Gram matrix of q rows (overwritten), the lower triangular a (q, q) that makes them orthonormal from the top
// down: the inverse Cholesky factor. A row whose part outside the rows above is below sqrt(cut) of it, or below
// sqrt(floor) of the first row, becomes 0.
void mbi_orthonormal(double *a, double *gram, int64_t q, double cut, double floor);
// Rows of w (q, q) and sigma: w y has orthonormal rows, w t orthogonal ones of length sigma, the largest first, for
// t = y G; from the Gram matrices of y and t (overwritten). Rows of y that mbi_orthonormal drops get sigma 0 and w 0.
int mbi_ritz(double *w, double *sigma, double *gram_y, double *gram_t, int64_t q, double cut, double floor, void *work);
size_t mbi_small_bytes(int64_t q); // work of these

// s (k, k) += a^T a with a (rows, k), or a a^T with a (k, rows) when transposed; the upper triangle.
void mbi_syrk(double *s, const double *a, int64_t k, int64_t rows, int transposed);

// Of the symmetric matrix whose upper triangle is in the first k rows of factor (k + 4, k): its tridiagonal form, and
// in the last row its eigenvalues, ascending. From these mbi_eigenvectors gives the c last vectors, one a row of z (c, k).
int mbi_eigenvalues(double *factor, int64_t k, void *work);
size_t mbi_eigenvalues_bytes(int64_t k);
int mbi_eigenvectors(double *z, const double *factor, int64_t k, int64_t c, void *work);
size_t mbi_eigenvectors_bytes(int64_t k);

// a (m, n) = u diag(s) v^T with u (m, k) and v (n, k); a is overwritten; u = v = NULL for s alone.
int mbi_svd_f32(float *u, float *s, float *v, float *a, int64_t m, int64_t n, void *work, size_t bytes);
int mbi_svd_f64(double *u, double *s, double *v, double *a, int64_t m, int64_t n, void *work, size_t bytes);
size_t mbi_svd_bytes(int64_t m, int64_t n, int vectors, size_t element);

// a (m, n) = q r with q (m, k) orthonormal columns; the upper triangle of the first k rows of a becomes r.
int mbi_qr(void *q, void *a, int64_t m, int64_t n, void *work, size_t element);
size_t mbi_qr_bytes(int64_t m, int64_t n, size_t element);
// values (n), ascending, of the symmetric matrix whose lower triangle is in a, which becomes its vectors, one a row.
int mbi_eigh(void *values, void *a, int64_t n, int vectors, void *work, size_t element);
size_t mbi_eigh_bytes(int64_t n, size_t element);
// a's lower triangle becomes its Cholesky factor. Returns the order of the first leading minor that is not positive, or 0.
int64_t mbi_cholesky(void *a, int64_t n, size_t element);
#endif
