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

// Polynomials whose composition takes every x in [least, 1] to 1 within `tolerance`, the best ones of each degree: at
// most `most` of them. Returns how many; composed they stay within (0, 2) on (0, 1]. least > 0.
int mbi_polar_express(mbi_quintic *steps, int most, double least, double tolerance);

// `count` matrices (m, n), contiguous, with room for an iteration. s = min(m, n).
typedef struct mbi_iteration {
  mb_device device;
  mb_dtype dtype;
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

// In place C += value I for `count` contiguous (s, s).
mb_status mbi_add_to_diagonal(const mbi_iteration *it, void *c, int64_t s, double value);
#endif
