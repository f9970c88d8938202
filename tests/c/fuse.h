// SPDX-License-Identifier: MIT
//
// fuse.h: what the C tests of fused programs share.
#ifndef MB_TEST_FUSE_H
#define MB_TEST_FUSE_H
#include "check.h"

// A vector of n times `value`.
static inline mb_tensor *filled(mb_dtype dtype, int64_t n, double value) {
  mb_tensor *t;
  CHECK_OK(mb_full(&t, dtype, 1, &n, MB_CPU, value));
  return t;
}

// build(t) with every allocation of it failing in turn: out of memory each time, of at least `least` allocations, until none is
// left to fail.
static inline void check_allocations(mb_status (*build)(mb_tensor *t), mb_tensor *t, int least) {
  int failures = 0;
  for (int64_t n = 1;; n++, failures++) {
    mb_debug_fail_allocation(n);
    mb_status status = build(t);
    mb_debug_fail_allocation(0);
    if (status == MB_OK) break;
    CHECK_EQ(status, MB_ERR_NOMEM);
    CHECK(strstr(mb_last_error(), "out of memory") != NULL);
  }
  CHECK(failures >= least);
}
#endif
