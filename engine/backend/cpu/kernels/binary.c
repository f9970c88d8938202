// SPDX-License-Identifier: MIT
//
// binary.c: out = f(a, b), its derivatives, y = alpha x + beta y, and where. Vector code where strides are
// 1 or, for one argument, 0 (a scalar or a stretched dimension).
#include "backend/cpu/cpu.h"
#include "backend/cpu/vmath.h"

static inline real f_add(real a, real b) { return a + b; }
static inline real f_sub(real a, real b) { return a - b; }
static inline real f_mul(real a, real b) { return a * b; }
static inline real f_div(real a, real b) { return a / b; }
static inline real f_pow(real a, real b) { return mbk_pow(a, b); }
// A NaN on either side stays a NaN.
static inline real f_min(real a, real b) { return a <= b || a != a ? a : b; }
static inline real f_max(real a, real b) { return a >= b || a != a ? a : b; }
static inline real f_less(real a, real b) { return a < b; }
static inline real f_less_equal(real a, real b) { return a <= b; }
static inline real f_equal(real a, real b) { return a == b; }

typedef struct span {
  real *out;
  const real *a, *b;
  int64_t so, sa, sb, n;
} span;

static inline __attribute__((always_inline)) void map(span s, real (*f)(real, real)) {
  if (s.so == 1 && s.sa == 1 && s.sb == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < s.n; i++) s.out[i] = f(s.a[i], s.b[i]);
  } else if (s.so == 1 && s.sa == 1 && s.sb == 0) {
    real b = s.b[0];
#pragma GCC ivdep
    for (int64_t i = 0; i < s.n; i++) s.out[i] = f(s.a[i], b);
  } else if (s.so == 1 && s.sa == 0 && s.sb == 1) {
    real a = s.a[0];
#pragma GCC ivdep
    for (int64_t i = 0; i < s.n; i++) s.out[i] = f(a, s.b[i]);
  } else {
    for (int64_t i = 0; i < s.n; i++) s.out[i * s.so] = f(s.a[i * s.sa], s.b[i * s.sb]);
  }
}

static void s_add(span s) { map(s, f_add); }
static void s_sub(span s) { map(s, f_sub); }
static void s_mul(span s) { map(s, f_mul); }
static void s_div(span s) { map(s, f_div); }
static void s_pow(span s) { map(s, f_pow); }
static void s_min(span s) { map(s, f_min); }
static void s_max(span s) { map(s, f_max); }
static void s_less(span s) { map(s, f_less); }
static void s_less_equal(span s) { map(s, f_less_equal); }
static void s_equal(span s) { map(s, f_equal); }

static void (*const spans[MBI_BINARY_COUNT])(span) = { /* ORDER BINARY */
  s_add, s_sub, s_mul, s_div, s_pow, s_min, s_max, s_less, s_less_equal, s_equal,
};

mb_status MBK(binary)(enum mbi_binary f, const mbi_view *out, const mbi_view *a, const mbi_view *b) {
  mbk_rows r;
  int64_t pieces, piece;
  mbk_rows_make(&r, 3, (const mbi_view *const[]){out, a, b});
  mbk_rows_split(&r, &pieces, &piece);
#pragma omp parallel for schedule(static) if (r.rows * r.length >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < r.rows * pieces; i++) {
    int64_t row = i / pieces, start = i % pieces * piece;
    int64_t n = r.length - start < piece ? r.length - start : piece;
    spans[f]((span){mbk_row(&r, 0, row) + start * r.step[0], mbk_row(&r, 1, row) + start * r.step[1],
                    mbk_row(&r, 2, row) + start * r.step[2], r.step[0], r.step[1], r.step[2], n});
  }
  return MB_OK;
}

// df/da or df/db at one point.
static inline real derivative(enum mbi_binary f, int side, real a, real b) {
  switch (f) {
    case MBI_MUL: return side == 0 ? b : a;
    case MBI_DIV: return side == 0 ? 1 / b : -a / (b * b);
    case MBI_POW:
      if (side == 0) return b == 0 ? 0 : b * mbk_pow(a, b - 1);
      return a == 0 ? 0 : mbk_pow(a, b) * mbk_log(a);
    case MBI_MIN: return (side == 0) == (a <= b) ? 1 : 0;
    case MBI_MAX: return (side == 0) == (a >= b) ? 1 : 0;
    default: return 0;
  }
}

mb_status MBK(binary_backward)(enum mbi_binary f, int side, void *dx, const void *dy, const mbi_view *a, const mbi_view *b) {
  // dy and dx have the broadcast sizes; walking them as views keeps one loop for all strides.
  mbi_view vx = *a, vy = *a;
  int64_t step = 1;
  for (int d = a->ndim - 1; d >= 0; d--) {
    vx.stride[d] = vy.stride[d] = step;
    step *= a->size[d];
  }
  vx.data = dx;
  vy.data = (void *)(uintptr_t)dy;
  if (f == MBI_MUL) return MBK(binary)(MBI_MUL, &vx, &vy, side == 0 ? b : a);
  mbk_rows r;
  int64_t pieces, piece;
  mbk_rows_make(&r, 4, (const mbi_view *const[]){&vx, &vy, a, b});
  mbk_rows_split(&r, &pieces, &piece);
#pragma omp parallel for schedule(static) if (r.rows * r.length >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < r.rows * pieces; i++) {
    int64_t row = i / pieces, first = i % pieces * piece, last = first + piece < r.length ? first + piece : r.length;
    real *x = mbk_row(&r, 0, row);
    const real *y = mbk_row(&r, 1, row), *pa = mbk_row(&r, 2, row), *pb = mbk_row(&r, 3, row);
    for (int64_t e = first; e < last; e++)
      x[e * r.step[0]] = y[e * r.step[1]] * derivative(f, side, pa[e * r.step[2]], pb[e * r.step[3]]);
  }
  return MB_OK;
}

static void axpby_span(real *y, int64_t sy, const real *x, int64_t sx, int64_t n, real alpha, real beta) {
  if (sy == 1 && sx == 1 && beta == 0) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i];
  } else if (sy == 1 && sx == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i] + beta * y[i];
  } else if (beta == 0) {
    for (int64_t i = 0; i < n; i++) y[i * sy] = alpha * x[i * sx];
  } else {
    for (int64_t i = 0; i < n; i++) y[i * sy] = alpha * x[i * sx] + beta * y[i * sy];
  }
}

mb_status MBK(axpby)(const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  mbk_rows r;
  int64_t pieces, piece;
  mbk_rows_make(&r, 2, (const mbi_view *const[]){y, x});
  mbk_rows_split(&r, &pieces, &piece);
#pragma omp parallel for schedule(static) if (r.rows * r.length >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < r.rows * pieces; i++) {
    int64_t row = i / pieces, start = i % pieces * piece;
    int64_t n = r.length - start < piece ? r.length - start : piece;
    axpby_span(mbk_row(&r, 0, row) + start * r.step[0], r.step[0], mbk_row(&r, 1, row) + start * r.step[1], r.step[1], n,
               (real)alpha, (real)beta);
  }
  return MB_OK;
}

typedef struct choice {
  real *out;
  const real *c, *a, *b;
  int64_t so, sc, sa, sb;
} choice;

static void where_span(choice s, int64_t n) {
  if (s.so == 1 && s.sc == 1 && s.sa == 1 && s.sb == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) s.out[i] = s.c[i] != 0 ? s.a[i] : s.b[i];
  } else if (s.so == 1 && s.sc == 1 && s.sa == 1 && s.sb == 0) {
    real b = s.b[0];
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) s.out[i] = s.c[i] != 0 ? s.a[i] : b;
  } else if (s.so == 1 && s.sc == 1 && s.sa == 0 && s.sb == 1) {
    real a = s.a[0];
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) s.out[i] = s.c[i] != 0 ? a : s.b[i];
  } else {
    for (int64_t i = 0; i < n; i++) s.out[i * s.so] = s.c[i * s.sc] != 0 ? s.a[i * s.sa] : s.b[i * s.sb];
  }
}

mb_status MBK(where)(const mbi_view *out, const mbi_view *c, const mbi_view *a, const mbi_view *b) {
  mbk_rows r;
  int64_t pieces, piece;
  mbk_rows_make(&r, 4, (const mbi_view *const[]){out, c, a, b});
  mbk_rows_split(&r, &pieces, &piece);
#pragma omp parallel for schedule(static) if (r.rows * r.length >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < r.rows * pieces; i++) {
    int64_t row = i / pieces, start = i % pieces * piece, n = r.length - start < piece ? r.length - start : piece;
    where_span((choice){mbk_row(&r, 0, row) + start * r.step[0], mbk_row(&r, 1, row) + start * r.step[1],
                        mbk_row(&r, 2, row) + start * r.step[2], mbk_row(&r, 3, row) + start * r.step[3],
                        r.step[0], r.step[1], r.step[2], r.step[3]}, n);
  }
  return MB_OK;
}
