// SPDX-License-Identifier: MIT
//
// unary.c: y = f(x) and dx = dy f'(x). One span function a formula: it runs over a piece of a row and is
// vector code where both strides are 1; the drivers cut views into pieces and share them among threads.
#include "backend/cpu/cpu.h"
#include "backend/cpu/vmath.h"

// ----- formulas: (x, alpha, beta) -> f(x) -----------------------------------------------------------

static inline real f_neg(real x, real a, real b) { (void)a, (void)b; return -x; }
static inline real f_abs(real x, real a, real b) { (void)a, (void)b; return mbk_fabs(x); }
static inline real f_sign(real x, real a, real b) { (void)a, (void)b; return x > 0 ? 1 : x < 0 ? -1 : x; }
static inline real f_exp(real x, real a, real b) { (void)a, (void)b; return mbk_exp(x); }
static inline real f_log(real x, real a, real b) { (void)a, (void)b; return mbk_log(x); }
static inline real f_sqrt(real x, real a, real b) { (void)a, (void)b; return mbk_sqrt(x); }
static inline real f_square(real x, real a, real b) { (void)a, (void)b; return x * x; }
static inline real f_reciprocal(real x, real a, real b) { (void)a, (void)b; return 1 / x; }
static inline real f_tanh(real x, real a, real b) { (void)a, (void)b; return mbk_tanh(x); }
static inline real f_sigmoid(real x, real a, real b) { (void)a, (void)b; return mbk_sigmoid(x); }
static inline real f_silu(real x, real a, real b) { (void)a, (void)b; return x * mbk_sigmoid(x); }
static inline real f_relu(real x, real a, real b) { (void)a, (void)b; return x > 0 || x != x ? x : 0; }
// x/2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3): one exp, and no cancellation for x < 0.
static const real twice_sqrt_2_over_pi = (real)1.59576912160573071176, cubic = (real)0.044715;
static inline real f_gelu_tanh(real x, real a, real b) {
  (void)a, (void)b;
  return x * mbk_sigmoid(twice_sqrt_2_over_pi * (x + cubic * x * x * x));
}
static const real inv_sqrt_2pi = (real)0.39894228040143267794;
static inline real f_gelu_erf(real x, real a, real b) { (void)a, (void)b; return x * mbk_normal_cdf(x); }
static inline real f_affine(real x, real a, real b) { return a * x + b; }
static inline real f_pow(real x, real a, real b) { (void)b; return mbk_pow(x, a); }

// ----- derivatives: (v, alpha) -> f', v is x or y as ops/unary.c saves it ------------------------------

static inline real d_neg(real v, real a) { (void)v, (void)a; return -1; }
static inline real d_abs(real x, real a) { (void)a; return x > 0 ? 1 : x < 0 ? -1 : 0; }
static inline real d_sign(real v, real a) { (void)v, (void)a; return 0; }
static inline real d_exp(real y, real a) { (void)a; return y; }
static inline real d_log(real x, real a) { (void)a; return 1 / x; }
static inline real d_sqrt(real y, real a) { (void)a; return (real)0.5 / y; }
static inline real d_square(real x, real a) { (void)a; return 2 * x; }
static inline real d_reciprocal(real y, real a) { (void)a; return -y * y; }
static inline real d_tanh(real y, real a) { (void)a; return 1 - y * y; }
static inline real d_sigmoid(real y, real a) { (void)a; return y * (1 - y); }
static inline real d_silu(real x, real a) { (void)a; real s = mbk_sigmoid(x); return s * (1 + x * (1 - s)); }
static inline real d_relu(real y, real a) { (void)a; return y > 0 ? 1 : 0; }
static inline real d_gelu_tanh(real x, real a) {
  (void)a;
  real s = mbk_sigmoid(twice_sqrt_2_over_pi * (x + cubic * x * x * x));
  return s + x * s * (1 - s) * twice_sqrt_2_over_pi * (1 + 3 * cubic * x * x);
}
static inline real d_gelu_erf(real x, real a) {
  (void)a;
  return mbk_normal_cdf(x) + x * inv_sqrt_2pi * mbk_exp((real)-0.5 * x * x);
}
static inline real d_affine(real v, real a) { (void)v; return a; }
static inline real d_pow(real x, real a) { return a == 0 ? 0 : a * mbk_pow(x, a - 1); }

// ----- spans ------------------------------------------------------------------------------------------

typedef struct span {
  real *y;
  const real *x;
  int64_t sy, sx, n;
  real alpha, beta;
} span;

// f is a constant at each call below, so that its body is inlined into the loop.
static inline __attribute__((always_inline)) void map(span s, real (*f)(real, real, real)) {
  if (s.sy == 1 && s.sx == 1) {
    // y may be x itself, never a shifted x.
#pragma GCC ivdep
    for (int64_t i = 0; i < s.n; i++) s.y[i] = f(s.x[i], s.alpha, s.beta);
  } else {
    for (int64_t i = 0; i < s.n; i++) s.y[i * s.sy] = f(s.x[i * s.sx], s.alpha, s.beta);
  }
}
static inline __attribute__((always_inline)) void map_d(real *restrict dx, const real *restrict dy, const real *restrict v, int64_t n,
                                                        real alpha, real (*d)(real, real)) {
  if (!v) {
    real slope = d(0, alpha);
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * slope;
    return;
  }
  for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * d(v[i], alpha);
}

static void s_neg(span s) { map(s, f_neg); }
static void s_abs(span s) { map(s, f_abs); }
static void s_sign(span s) { map(s, f_sign); }
static void s_exp(span s) { map(s, f_exp); }
static void s_log(span s) { map(s, f_log); }
static void s_sqrt(span s) { map(s, f_sqrt); }
static void s_square(span s) { map(s, f_square); }
static void s_reciprocal(span s) { map(s, f_reciprocal); }
static void s_tanh(span s) { map(s, f_tanh); }
static void s_sigmoid(span s) { map(s, f_sigmoid); }
static void s_silu(span s) { map(s, f_silu); }
static void s_relu(span s) { map(s, f_relu); }
static void s_gelu_tanh(span s) { map(s, f_gelu_tanh); }
static void s_gelu_erf(span s) { map(s, f_gelu_erf); }
static void s_affine(span s) { map(s, f_affine); }
static void s_pow(span s) { map(s, f_pow); }

typedef real *restrict to;
typedef const real *restrict from;
static void t_neg(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_neg); }
static void t_abs(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_abs); }
static void t_sign(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_sign); }
static void t_exp(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_exp); }
static void t_log(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_log); }
static void t_sqrt(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_sqrt); }
static void t_square(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_square); }
static void t_reciprocal(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_reciprocal); }
static void t_tanh(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_tanh); }
static void t_sigmoid(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_sigmoid); }
static void t_silu(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_silu); }
static void t_relu(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_relu); }
static void t_gelu_tanh(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_gelu_tanh); }
static void t_gelu_erf(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_gelu_erf); }
static void t_affine(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_affine); }
static void t_pow(to dx, from dy, from v, int64_t n, real a) { map_d(dx, dy, v, n, a, d_pow); }

static void (*const spans[MBI_UNARY_COUNT])(span) = { /* ORDER UNARY */
  s_neg, s_abs, s_sign, s_exp, s_log, s_sqrt, s_square, s_reciprocal, s_tanh, s_sigmoid,
  s_silu, s_relu, s_gelu_tanh, s_gelu_erf, s_affine, s_pow,
};
static void (*const spans_d[MBI_UNARY_COUNT])(to, from, from, int64_t, real) = { /* ORDER UNARY */
  t_neg, t_abs, t_sign, t_exp, t_log, t_sqrt, t_square, t_reciprocal, t_tanh, t_sigmoid,
  t_silu, t_relu, t_gelu_tanh, t_gelu_erf, t_affine, t_pow,
};

// ----- kernels ----------------------------------------------------------------------------------------

mb_status MBK(unary)(enum mbi_unary f, const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  mbk_rows r;
  int64_t pieces, piece;
  mbk_rows_make(&r, 2, (const mbi_view *const[]){y, x});
  mbk_rows_split(&r, &pieces, &piece);
#pragma omp parallel for schedule(static) if (r.rows * r.length >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < r.rows * pieces; i++) {
    int64_t row = i / pieces, start = i % pieces * piece;
    int64_t n = r.length - start < piece ? r.length - start : piece;
    spans[f]((span){mbk_row(&r, 0, row) + start * r.step[0], mbk_row(&r, 1, row) + start * r.step[1], r.step[0], r.step[1], n,
                    (real)alpha, (real)beta});
  }
  return MB_OK;
}

mb_status MBK(unary_backward)(enum mbi_unary f, void *dx, const void *dy, const void *x, const void *y, int64_t count, double alpha) {
  enum { PIECE = 8192 };
  const real *v = x ? x : y;
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t start = 0; start < count; start += PIECE) {
    int64_t n = count - start < PIECE ? count - start : PIECE;
    spans_d[f]((real *)dx + start, (const real *)dy + start, v ? v + start : NULL, n, (real)alpha);
  }
  return MB_OK;
}
