// SPDX-License-Identifier: MIT
//
// check.h: assertions of the C tests. They print both values and do not vanish with NDEBUG.
#ifndef MB_CHECK_H
#define MB_CHECK_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moonbow.h"

static int check_count;

#define CHECK(condition)                                                                   \
  do {                                                                                     \
    check_count++;                                                                         \
    if (!(condition)) {                                                                    \
      fprintf(stderr, "%s:%d: not true: %s (last error: %s)\n", __FILE__, __LINE__, #condition, mb_last_error()); \
      exit(1);                                                                             \
    }                                                                                      \
  } while (0)
#define CHECK_OK(call) CHECK((call) == MB_OK)
#define CHECK_FAILS(code, part, call)                                                      \
  do {                                                                                     \
    mb_status status_ = (call);                                                            \
    CHECK(status_ == (code));                                                              \
    CHECK(strstr(mb_last_error(), part) != NULL);                                          \
  } while (0)
#define CHECK_NEAR(a, b, tolerance)                                                        \
  do {                                                                                     \
    double a_ = (a), b_ = (b);                                                             \
    check_count++;                                                                         \
    if (!(fabs(a_ - b_) <= (tolerance))) {                                                 \
      fprintf(stderr, "%s:%d: %s is %.17g, %s is %.17g\n", __FILE__, __LINE__, #a, a_, #b, b_); \
      exit(1);                                                                             \
    }                                                                                      \
  } while (0)
#define CHECK_EQ(a, b)                                                                     \
  do {                                                                                     \
    long long a_ = (long long)(a), b_ = (long long)(b);                                    \
    check_count++;                                                                         \
    if (a_ != b_) {                                                                        \
      fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a, a_, #b, b_); \
      exit(1);                                                                             \
    }                                                                                      \
  } while (0)
static inline int check_end(void) {
  printf("%d checks passed\n", check_count);
  return 0;
}
#endif
