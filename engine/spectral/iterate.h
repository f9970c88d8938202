// SPDX-License-Identifier: MIT
//
// iterate.h: iterations made of products alone, on batches of equal-shaped matrices in memory of the device: the
// polar factor, the inverse square root. Each step applies an odd polynomial x (a + b x^2 + c x^4) to singular values.
#ifndef MBI_ITERATE_H
#define MBI_ITERATE_H
#include "core/tensor.h"

typedef struct mbi_quintic {
  double a, b, c;
} mbi_quintic;

enum { MBI_MOST_STEPS = 100 };

// Polynomials whose composition takes every x in [least, 1] to 1 within `tolerance`, at most `most` of them. Returns how
// many; composed they stay within (0, 2) on (0, 1]. least > 0. Each is the best for the values that are left, but
// none aims below `cushion` of the largest: it would be so steep there that it cancels, and loses digits, elsewhere.
// With 0.1, float32 loses half as much as with 0.024 and needs as many steps.
//
// An extreme between the ends goes exactly to the end of the next interval, where a polynomial is steep: 9 at 2. A value that
// rounding puts beyond would go on farther out with every step. So intervals are taken longer by `slack` of their end as
// long as they are not short; MBI_SLACK is more than rounding is, and costs no step.
#define MBI_SLACK 1e-3
int mbi_polar_express(mbi_quintic *steps, int most, double least, double tolerance, double cushion, double slack);

// `count` matrices (m, n), contiguous, with room for an iteration. s = min(m, n).
typedef struct mbi_iteration {
  mb_device device;
  mb_dtype dtype;
  int symmetric;     // every x is symmetric, and so is what becomes of it
  int may_round;     // of its products, see mbi_gemm
  double last_scale; // in bf16: of what mbi_msign leaves
  int64_t count, m, n;
  mb_tensor *memory; // of all below
  void *x, *y;       // (count, m, n) the matrices, and as much room
  void *a, *b;       // (count, s, s) room
} mbi_iteration;
mb_status mbi_iteration_new(mbi_iteration *it, mb_device device, mb_dtype dtype, int64_t count, int64_t m, int64_t n);
void mbi_iteration_release(mbi_iteration *it);

// x -> U p(...p(diag(sigma))) V^T, one polynomial a step; it->x and it->y may change places. Singular values of x lie
// in [0, 1].
mb_status mbi_msign(mbi_iteration *it, const mbi_quintic *steps, int n_steps);

// x, symmetric with eigenvalues in (0, 1], becomes its inverse square root, in *z; both and it->y are used up. The steps are
// those that take square roots of the eigenvalues to 1. *z, like x, is memory of (count, s, s); they may change places.
mb_status mbi_inverse_sqrt(mbi_iteration *it, void **z, const mbi_quintic *steps, int n_steps);
// In place C += value I for `count` contiguous (s, s).
mb_status mbi_add_to_diagonal(const mbi_iteration *it, void *c, int64_t count, int64_t s, double value);

// sigma (count) on the host: the largest singular value of scale[i] G[i] (m, n), to 1e-6 of it and from below; NaN where
// G is not finite or its squares leave the range of its type. g and scale are host arrays.
mb_status mbi_sigma_max(double *sigma, mb_device device, mb_dtype dtype, int64_t count, int64_t m, int64_t n, void *const *g,
                        const double *scale);
#endif
