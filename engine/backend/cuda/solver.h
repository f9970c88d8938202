// SPDX-License-Identifier: MIT
//
// solver.h: dense factorisations through cuSOLVER, in the stand-in through LAPACK. Matrices are column-major, one after
// another in memory, and are worked on one after the other in the stream; `count` of them in a call. info (count), of the
// device: 0, or what LAPACK says of that matrix. Nothing waits for the device.
#ifndef MBK_CUDA_SOLVER_H
#define MBK_CUDA_SOLVER_H
#include "backend/cuda/host.h"

namespace mbk {

// Scratch slots of this file and of small.h; their callers use lower ones.
constexpr int SMALL_SLOT = 3, INFO_SLOT = 4, WORK_SLOT = 5;

template <class T> struct Solver {
  // Symmetric matrices a (n, n) of column stride lda become their eigenvectors in columns, if asked for; values (count, n)
  // ascending. The upper triangle is read.
  static mb_status eigh(T *values, T *a, int64_t n, int64_t lda, int64_t count, bool vectors, int *info);
  // a (m, n) = u diag(s) v^T, u (m, k), v (n, k), k = min(m, n); or s alone, with room for one u and one v. a is overwritten.
  static mb_status svd(T *u, T *s, T *v, T *a, int64_t m, int64_t n, int64_t count, bool vectors, int *info);
  // a (m, n) becomes r above the diagonal and reflectors below, with factors tau (count, min(m, n)).
  static mb_status factor(T *a, T *tau, int64_t m, int64_t n, int64_t count, int *info);
  // The first k columns of matrices (m, n) that factor made become q (m, k).
  static mb_status reflect(T *a, const T *tau, int64_t m, int64_t n, int64_t count, int *info);
  // The upper triangle of a (n, n) becomes its Cholesky factor.
  static mb_status cholesky(T *a, int64_t n, int64_t count, int *info);
};

} // namespace mbk
#endif
