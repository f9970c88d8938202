// SPDX-License-Identifier: MIT
//
// half.h: the iteration of msign.c with factors of binary16, on a device that has such products.
#ifndef MBI_HALF_H
#define MBI_HALF_H
#include "spectral/iterate.h"

typedef struct mbi_polynomials {
  mbi_quintic steps[MBI_MOST_STEPS];
  int n, exact;           // exact: of the last steps, those that are better made on the matrices themselves
  double factor, epsilon; // a matrix begins as factor a / (|a|_F + epsilon)
} mbi_polynomials;

// Matrices of one shape: to = scale p(...p(from)).
typedef struct mbi_half_group {
  int64_t count, m, n;
  mb_tensor *from;   // (count, m, n), contiguous and finite
  mb_tensor *to;     // as much float32
  double scale;
  void *x, *y;       // in the iteration: (count, m, n) binary16, room for as much
} mbi_half_group;

mb_status mbi_msign_half(mbi_half_group *groups, int64_t count, const mbi_polynomials *p);
#endif
