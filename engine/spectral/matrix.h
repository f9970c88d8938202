// SPDX-License-Identifier: MIT
//
// matrix.h: what functions of one matrix (m, n) or of a batch (L, m, n) share: taking the argument, making the
// results. `who` begins the text of an error.
#ifndef MBI_MATRIX_H
#define MBI_MATRIX_H
#include "core/tensor.h"

// A matrix (m, n), or a batch of them (count, m, n); k = min(m, n).
typedef struct mbi_matrices {
  int64_t m, n, k, count;
} mbi_matrices;
mb_status mbi_matrices_of(mbi_matrices *s, mb_tensor *a, const char *who); // from a's shape, any strides
mb_status mbi_matrices_finite(const mb_tensor *dense, const char *who);    // a contiguous a holds no NaN or Inf
// *copy = `a`, finite, made contiguous in memory of its own, which a kernel may overwrite.
mb_status mbi_matrices_copy(mb_tensor **copy, mbi_matrices *s, mb_tensor *a, const char *who);
mb_status mbi_matrices_copy_square(mb_tensor **copy, mbi_matrices *s, mb_tensor *a, const char *who); // the same, m = n
// A new tensor (rows, columns) or (count, rows, columns) beside `a`; columns 0 leaves that dimension out.
mb_status mbi_matrices_new(mb_tensor **out, const mb_tensor *a, mb_dtype dtype, int64_t rows, int64_t columns);
#endif
