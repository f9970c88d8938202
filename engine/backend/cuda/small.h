// SPDX-License-Identifier: MIT
//
// small.h: the small float64 problems between products of large matrices: symmetric eigenvalues and triangular bases,
// many of one size in a call. Nothing waits for the device.
#ifndef MBK_CUDA_SMALL_H
#define MBK_CUDA_SMALL_H
#include "backend/cuda/mask.h"
#include "backend/cuda/math.h"

namespace mbk {

// Up to this side a block keeps a matrix and its vectors in shared memory.
constexpr int64_t MOST_SMALL = 96;

// What the eigenvectors z (q, q) of a Gram matrix, one a row, and their values, ascending, say of its vectors: rows of a that turn
// them into their singular directions, the largest first, each of about unit length; the largest and the smallest size, which
// change flags (backend.h, mbi_sketch_limits). Where the directions are orthogonal to less than 1e-6, MBI_ROUGH is set.
struct Align {
  double *a = nullptr, *sizes = nullptr; // (count, q, q), (count, 2); NULL: nothing is to be done
  int64_t *flags = nullptr;              // (count) or NULL
  mbi_sketch_limits limits = {0, 0, 0};
  int has_limits = 0;

  SIMT void row_of(int64_t matrix, int64_t row, int64_t column, const double *z, const double *values, int64_t q, int64_t lda) const {
    double largest = values[q - 1], least = 1e-18 * largest, mine = values[q - 1 - row]; // below, values are rounding
    a[(matrix * q + row) * q + column] = largest > 0 ? z[(q - 1 - row) * lda + column] / sqrt_of(mine > least ? mine : least) : 0;
  }
  SIMT void judge(int64_t matrix, const double *values, int64_t q) const {
    double largest = values[q - 1], least = values[0];
    double large = largest > 0 ? sqrt_of(largest) : 0 * largest, small = least > 0 ? sqrt_of(least) : 0 * least;
    sizes[2 * matrix] = large, sizes[2 * matrix + 1] = small;
    if (!flags) return;
    int64_t mine = flags[matrix] & ~(int64_t)MBI_ROUGH;
    if (!(small > 3e-5 * large)) mine |= MBI_ROUGH;
    if (has_limits && (mine & MBI_FINITE)) {
      if (!(large >= limits.low && large <= limits.high)) mine |= MBI_EXTREME;
      else if (small < limits.ratio * large) mine |= MBI_STEEP;
    }
    flags[matrix] = mine;
  }
};

// Symmetric matrices (count, n, n) of row stride lda, one after another every n lda: each the sum of `slices` of `parts`
// (count, slices, n, lda), of which the lower triangles are read. With one slice parts may be a.
struct SmallProblem {
  double *values, *a;
  const double *parts;
  int64_t slices, count;
  int *info;
  Mask mask;
  Align align;
  double tolerance = 0; // rows and columns may stay as far from orthogonal
};

// They become their eigenvectors, one a row; values (count, n) ascending. Where a matrix is not finite or does not
// converge, its values are NaN, its vectors 0 and info (count) is not 0. So it is with what the mask passes over, where the
// solver cannot. All problems are one launch, if they are small.
mb_status eigen(const SmallProblem *problems, int64_t groups, int64_t n, int64_t lda);

// From Gram matrices (count, q, q) of q rows, sums of `slices` of `parts`: the lower triangular a (count, q, q) that makes the rows
// orthonormal from the top down, the inverse Cholesky factor; gram (count, q, q) is room. A row whose part outside the rows above is
// below sqrt(cut) of it becomes 0. What is not finite gives what is not. Besides, where there is one, sum = the sum of other parts.
struct Triangular {
  double *a, *gram;
  const double *parts;
  int64_t slices, count;
  Mask mask;
  double *sum;
  const double *other;
  int64_t other_slices;
};
mb_status orthonormal(const Triangular *problems, int64_t groups, int64_t q, double cut);

// The same for rows x (count, q, n) themselves, in place, at most MOST_FEW of them: a block makes the Gram matrix and all else.
constexpr int64_t MOST_FEW = 32;
template <class T> struct FewRows {
  T *x;
  int64_t n, count;
  Mask mask;
};
template <class T> mb_status orthonormal_rows(const FewRows<T> *problems, int64_t groups, int64_t q, double cut);

// A slot of float32 and float64: what is found in bf16 would be its rounding.
#define MBK_WIDE_SLOT(name, ...)                                                              \
  template <> mb_status Kernels<bf16>::name(__VA_ARGS__) {                                    \
    return fail(MB_ERR_DTYPE, "cuda: " #name ": f32 or f64 was expected, not bf16");          \
  }                                                                                           \
  MBK_SLOT(name)

} // namespace mbk
#endif
