// SPDX-License-Identifier: MIT
//
// fuse.c: runs a fused program tile by tile. A tile is 512 bytes of each array, so small that the processor
// still loads one tile while it computes another: with tiles of 4 KiB loading and computing take turns, and
// AdamW reaches a third of the bandwidth. Every step is one loop over the tile with its operands in the
// first-level cache; arrays are read and written where they lie, without a copy.
//
// Tiles lie on a fixed grid over the arrays, whatever the ranges and the number of threads are; each thread
// takes a contiguous run of them.
#include "backend/cpu/cpu.h"
#include "backend/cpu/vmath.h"

enum { TILE = 512 / (int)sizeof(real), TEMPS = 0, UNIFORMS = 1, PLACES = 2 /* scratch slots */ };

typedef const mbi_fuse_step *step_in;
typedef real *const *places; // where each operand of the program lies: an array's tile, a number, a temp

// ----- formulas -----------------------------------------------------------------------------------------

static inline real f_add(real a, real b) { return a + b; }
static inline real f_sub(real a, real b) { return a - b; }
static inline real f_mul(real a, real b) { return a * b; }
static inline real f_div(real a, real b) { return a / b; }
static inline real f_min(real a, real b) { return a <= b || a != a ? a : b; }
static inline real f_max(real a, real b) { return a >= b || a != a ? a : b; }
static inline real f_pow(real a, real b) { return mbk_pow(a, b); }
static inline real f_lt(real a, real b) { return a < b; }
static inline real f_le(real a, real b) { return a <= b; }
static inline real f_eq(real a, real b) { return a == b; }
static inline real f_neg(real x) { return -x; }
static inline real f_abs(real x) { return mbk_fabs(x); }
static inline real f_sign(real x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
static inline real f_sqrt(real x) { return mbk_sqrt(x); }
static inline real f_rsqrt(real x) { return 1 / mbk_sqrt(x); }
static inline real f_reciprocal(real x) { return 1 / x; }
static inline real f_square(real x) { return x * x; }
static inline real f_exp(real x) { return mbk_exp(x); }
static inline real f_log(real x) { return mbk_log(x); }
static inline real f_tanh(real x) { return mbk_tanh(x); }
static inline real f_sigmoid(real x) { return mbk_sigmoid(x); }
static inline real f_move(real x) { return x; }
static inline real f_where(real c, real a, real b) { return c != 0 ? a : b; }
static inline real f_madd(real a, real b, real c) { return a * b + c; }
static inline real f_msub(real a, real b, real c) { return a * b - c; }
static inline real f_nmadd(real a, real b, real c) { return c - a * b; }

// ----- loops --------------------------------------------------------------------------------------------
// f is a constant at each call, so that its body is inlined. A whole tile gets its own copy of the loop,
// without a remainder. The output may be one of the inputs, never a shifted one: hence ivdep.

#define INLINE static inline __attribute__((always_inline))

INLINE void loop1(real *out, const real *a, int n, real (*f)(real)) {
#pragma GCC ivdep
  for (int i = 0; i < n; i++) out[i] = f(a[i]);
}
INLINE void map1(step_in s, places at, int n, real (*f)(real)) {
  if (n == TILE) loop1(at[s->out], at[s->in[0]], TILE, f);
  else loop1(at[s->out], at[s->in[0]], n, f);
}

INLINE void loop2(real *out, const real *a, const real *b, int form, int n, real (*f)(real, real)) {
  if (form == 0) {
#pragma GCC ivdep
    for (int i = 0; i < n; i++) out[i] = f(a[i], b[i]);
  } else if (form == 1) {
    real u = *a;
#pragma GCC ivdep
    for (int i = 0; i < n; i++) out[i] = f(u, b[i]);
  } else {
    real u = *b;
#pragma GCC ivdep
    for (int i = 0; i < n; i++) out[i] = f(a[i], u);
  }
}
INLINE void map2(step_in s, places at, int n, real (*f)(real, real)) {
  real *out = at[s->out];
  const real *a = at[s->in[0]], *b = at[s->in[1]];
  if (n == TILE) loop2(out, a, b, s->form, TILE, f);
  else loop2(out, a, b, s->form, n, f);
}

// The first operand is a tile.
INLINE void loop3(real *out, const real *a, const real *b, const real *c, int form, int n, real (*f)(real, real, real)) {
  real u = *b, v = *c;
  if (form == 0) {
#pragma GCC ivdep
    for (int i = 0; i < n; i++) out[i] = f(a[i], b[i], c[i]);
  } else if (form == 2) {
#pragma GCC ivdep
    for (int i = 0; i < n; i++) out[i] = f(a[i], u, c[i]);
  } else if (form == 4) {
#pragma GCC ivdep
    for (int i = 0; i < n; i++) out[i] = f(a[i], b[i], v);
  } else {
#pragma GCC ivdep
    for (int i = 0; i < n; i++) out[i] = f(a[i], u, v);
  }
}
INLINE void map3(step_in s, places at, int n, real (*f)(real, real, real)) {
  real *out = at[s->out];
  const real *a = at[s->in[0]], *b = at[s->in[1]], *c = at[s->in[2]];
  if (n == TILE) loop3(out, a, b, c, s->form, TILE, f);
  else loop3(out, a, b, c, s->form, n, f);
}

// a u + b v or a u - b v.
INLINE void loop4(real *out, const real *a, real u, const real *b, real v, int n) {
#pragma GCC ivdep
  for (int i = 0; i < n; i++) out[i] = a[i] * u + b[i] * v;
}
INLINE void map4(step_in s, places at, int n, real sign) {
  real *out = at[s->out], u = *at[s->in[1]], v = sign * *at[s->in[3]];
  const real *a = at[s->in[0]], *b = at[s->in[2]];
  if (n == TILE) loop4(out, a, u, b, v, TILE);
  else loop4(out, a, u, b, v, n);
}

// ----- steps --------------------------------------------------------------------------------------------

static void s_add(step_in s, places at, int n) { map2(s, at, n, f_add); }
static void s_sub(step_in s, places at, int n) { map2(s, at, n, f_sub); }
static void s_mul(step_in s, places at, int n) { map2(s, at, n, f_mul); }
static void s_div(step_in s, places at, int n) { map2(s, at, n, f_div); }
static void s_min(step_in s, places at, int n) { map2(s, at, n, f_min); }
static void s_max(step_in s, places at, int n) { map2(s, at, n, f_max); }
static void s_pow(step_in s, places at, int n) { map2(s, at, n, f_pow); }
static void s_lt(step_in s, places at, int n) { map2(s, at, n, f_lt); }
static void s_le(step_in s, places at, int n) { map2(s, at, n, f_le); }
static void s_eq(step_in s, places at, int n) { map2(s, at, n, f_eq); }
static void s_neg(step_in s, places at, int n) { map1(s, at, n, f_neg); }
static void s_abs(step_in s, places at, int n) { map1(s, at, n, f_abs); }
static void s_sign(step_in s, places at, int n) { map1(s, at, n, f_sign); }
static void s_sqrt(step_in s, places at, int n) { map1(s, at, n, f_sqrt); }
static void s_rsqrt(step_in s, places at, int n) { map1(s, at, n, f_rsqrt); }
static void s_reciprocal(step_in s, places at, int n) { map1(s, at, n, f_reciprocal); }
static void s_square(step_in s, places at, int n) { map1(s, at, n, f_square); }
static void s_exp(step_in s, places at, int n) { map1(s, at, n, f_exp); }
static void s_log(step_in s, places at, int n) { map1(s, at, n, f_log); }
static void s_tanh(step_in s, places at, int n) { map1(s, at, n, f_tanh); }
static void s_sigmoid(step_in s, places at, int n) { map1(s, at, n, f_sigmoid); }
static void s_madd(step_in s, places at, int n) { map3(s, at, n, f_madd); }
static void s_msub(step_in s, places at, int n) { map3(s, at, n, f_msub); }
static void s_nmadd(step_in s, places at, int n) { map3(s, at, n, f_nmadd); }
static void s_axpby(step_in s, places at, int n) { map4(s, at, n, 1); }
static void s_axmby(step_in s, places at, int n) { map4(s, at, n, -1); }
static void s_move(step_in s, places at, int n) { map1(s, at, n, f_move); }

static void s_fill(step_in s, places at, int n) {
  real *out = at[s->out], u = *at[s->in[0]];
  for (int i = 0; i < n; i++) out[i] = u;
}

// A uniform condition chooses one operand for the whole tile.
static void s_where(step_in s, places at, int n) {
  if (!(s->form & 1)) {
    map3(s, at, n, f_where);
    return;
  }
  int chosen = *at[s->in[0]] != 0 ? 1 : 2;
  mbi_fuse_step copy = {.out = s->out, .in = {s->in[chosen]}};
  if (s->form >> chosen & 1) s_fill(&copy, at, n);
  else s_move(&copy, at, n);
}

static void (*const steps[MBI_FUSE_CODE_COUNT])(step_in, places, int) = { /* ORDER FUSE */
  s_add, s_sub, s_mul, s_div, s_min, s_max, s_pow, s_lt, s_le, s_eq, s_neg, s_abs, s_sign, s_sqrt, s_rsqrt,
  s_reciprocal, s_square, s_exp, s_log, s_tanh, s_sigmoid, s_where, s_madd, s_msub, s_nmadd, s_axpby, s_axmby, s_move, s_fill,
};

// ----- tiles --------------------------------------------------------------------------------------------

static inline int64_t tiles_of(int64_t begin, int64_t end) { return (end + TILE - 1) / TILE - begin / TILE; }

// `at` is the calling thread's own table of places.
static void run_tile(const mbi_fuse_run *run, real **at, int64_t element, int n) {
  for (int i = 0; i < run->n_arrays; i++) at[i] = (real *)run->arrays[i] + element;
  for (int s = 0; s < run->n_steps; s++) steps[run->steps[s].code](&run->steps[s], at, n);
}

// Tiles [first, last) of all ranges, counted through.
static void run_tiles(const mbi_fuse_run *run, real **at, int64_t first, int64_t last) {
  int64_t passed = 0;
  for (int64_t r = 0; r < run->n_ranges && passed < last; r++) {
    int64_t begin = run->begin[r], end = run->end[r], count = tiles_of(begin, end);
    int64_t from = first > passed ? first - passed : 0, to = last - passed < count ? last - passed : count;
    for (int64_t tile = begin / TILE + from; tile < begin / TILE + to; tile++) {
      int64_t start = tile * TILE < begin ? begin : tile * TILE, stop = (tile + 1) * TILE < end ? (tile + 1) * TILE : end;
      run_tile(run, at, start, (int)(stop - start));
    }
    passed += count;
  }
}

mb_status MBK(fuse)(const mbi_fuse_run *run) {
  int64_t tiles = 0;
  for (int64_t r = 0; r < run->n_ranges; r++) tiles += tiles_of(run->begin[r], run->end[r]);
  size_t threads = tiles * TILE >= MBK_PARALLEL_FROM ? (size_t)omp_get_max_threads() : 1;
  // Each thread writes to its own table of places all the time: no two share a pair of cache lines.
  size_t n_operands = ((size_t)(run->n_arrays + run->n_uniforms + run->n_temps) + 31) / 16 * 16;
  size_t temps_stride = (size_t)run->n_temps * TILE;
  void *temps, *uniforms, *tables;
  MB_TRY(mbi_scratch(&temps, TEMPS, (threads * temps_stride + 1) * sizeof(real)));
  MB_TRY(mbi_scratch(&uniforms, UNIFORMS, ((size_t)run->n_uniforms + 1) * sizeof(real)));
  MB_TRY(mbi_scratch(&tables, PLACES, threads * n_operands * sizeof(real *)));
  real *uniform = uniforms;
  for (int i = 0; i < run->n_uniforms; i++) uniform[i] = (real)run->uniforms[i];
#pragma omp parallel num_threads((int)threads)
  {
    size_t thread = (size_t)omp_get_thread_num();
    int64_t of = omp_get_num_threads();
    real **at = (real **)tables + thread * n_operands, *temp = (real *)temps + thread * temps_stride;
    for (int i = 0; i < run->n_uniforms; i++) at[run->n_arrays + i] = uniform + i;
    for (int i = 0; i < run->n_temps; i++) at[run->n_arrays + run->n_uniforms + i] = temp + i * TILE;
    run_tiles(run, at, tiles * (int64_t)thread / of, tiles * ((int64_t)thread + 1) / of);
  }
  return MB_OK;
}
