// SPDX-License-Identifier: MIT
//
// small.h: the small float64 problems between products of large matrices: symmetric eigenvalues and triangular bases,
// many of one size in a call. Nothing waits for the device.
#ifndef MBK_CUDA_SMALL_H
#define MBK_CUDA_SMALL_H
#include "backend/cuda/mask.h"

namespace mbk {

// Up to this side a block keeps a matrix and its vectors in shared memory.
constexpr int64_t MOST_SMALL = 96;

// Symmetric matrices a (count, n, n) of row stride lda, one after another every n lda, of which the lower triangles are
// read, become their eigenvectors, one a row; values (count, n) ascending. Where a matrix is not finite or does not
// converge, its values are NaN, its vectors 0 and info (count) is not 0. So it is with what the mask passes over, where the
// solver cannot.
mb_status eigen(double *values, double *a, int64_t n, int64_t lda, int64_t count, int *info, const Mask &mask);

// From Gram matrices (count, q, q) of q rows, overwritten: the lower triangular a (count, q, q) that makes the rows
// orthonormal from the top down, the inverse Cholesky factor. A row whose part outside the rows above is below sqrt(cut)
// of it becomes 0. What is not finite gives what is not.
mb_status orthonormal(double *a, double *gram, int64_t q, int64_t count, double cut, const Mask &mask);

// A slot of float32 and float64: what is found in bf16 would be its rounding.
#define MBK_WIDE_SLOT(name, ...)                                                              \
  template <> mb_status Kernels<bf16>::name(__VA_ARGS__) {                                    \
    return fail(MB_ERR_DTYPE, "cuda: " #name ": f32 or f64 was expected, not bf16");          \
  }                                                                                           \
  MBK_SLOT(name)

} // namespace mbk
#endif
