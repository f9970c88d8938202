// SPDX-License-Identifier: MIT
//
// scalar.c: the operations of a fused program on single numbers, in float64: for folding constants, and for
// the uniform values of a run. They agree with the backend's on signed zeros and NaN: min and max keep a NaN
// of either side, sign keeps NaN and zeros.
#include <math.h>

#include "fuse/fuse.h"

double mbi_fuse_evaluate(mb_fuse_op op, double a, double b, double c) {
  switch (op) { /* ORDER FUSE */
    case MB_FUSE_ADD: return a + b;
    case MB_FUSE_SUB: return a - b;
    case MB_FUSE_MUL: return a * b;
    case MB_FUSE_DIV: return a / b;
    case MB_FUSE_MIN: return a <= b || isnan(a) ? a : b;
    case MB_FUSE_MAX: return a >= b || isnan(a) ? a : b;
    case MB_FUSE_POW: return pow(a, b);
    case MB_FUSE_LT: return a < b;
    case MB_FUSE_LE: return a <= b;
    case MB_FUSE_EQ: return a == b;
    case MB_FUSE_NEG: return -a;
    case MB_FUSE_ABS: return fabs(a);
    case MB_FUSE_SIGN: return a > 0 ? 1 : a < 0 ? -1 : a;
    case MB_FUSE_SQRT: return sqrt(a);
    case MB_FUSE_RSQRT: return 1 / sqrt(a);
    case MB_FUSE_RECIPROCAL: return 1 / a;
    case MB_FUSE_SQUARE: return a * a;
    case MB_FUSE_EXP: return exp(a);
    case MB_FUSE_LOG: return log(a);
    case MB_FUSE_TANH: return tanh(a);
    case MB_FUSE_SIGMOID: return 1 / (1 + exp(-a));
    case MB_FUSE_NORMAL_CDF: return 0.5 * erfc(a * -0.70710678118654752440);
    case MB_FUSE_WHERE: return a != 0 ? b : c;
    case MB_FUSE_OP_COUNT: break;
  }
  return NAN;
}
