// SPDX-License-Identifier: MIT
//
// fuse_steps.h: what each step of a fused program does to a tile: one loop over its elements.
#ifndef MBK_FUSE_STEPS_H
#define MBK_FUSE_STEPS_H
#include "backend/cpu/cpu.h"
#include "backend/cpu/random.h"

// 512 bytes, see kernels/fuse.c; and the blocks of four random numbers that its elements may lie in.
enum { TILE = 512 / (int)sizeof(real), TILE_BLOCKS = TILE / 4 + 1 };

typedef const mbi_fuse_step *step_in;
typedef real *const *places; // where each operand of the program lies: an array's tile, a number, a temp
typedef struct frame {       // a tile
  real **at;                 // places of the thread
  int n;                     // elements
  int64_t element;           // the first one's number in its arrays
  const mbi_fuse_run *run;
} frame;
typedef const frame *frame_in;

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
static inline real f_normal_cdf(real x) { return mbk_normal_cdf(x); }
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

static void s_add(step_in s, frame_in t) { map2(s, t->at, t->n, f_add); }
static void s_sub(step_in s, frame_in t) { map2(s, t->at, t->n, f_sub); }
static void s_mul(step_in s, frame_in t) { map2(s, t->at, t->n, f_mul); }
static void s_div(step_in s, frame_in t) { map2(s, t->at, t->n, f_div); }
static void s_min(step_in s, frame_in t) { map2(s, t->at, t->n, f_min); }
static void s_max(step_in s, frame_in t) { map2(s, t->at, t->n, f_max); }
static void s_pow(step_in s, frame_in t) { map2(s, t->at, t->n, f_pow); }
static void s_lt(step_in s, frame_in t) { map2(s, t->at, t->n, f_lt); }
static void s_le(step_in s, frame_in t) { map2(s, t->at, t->n, f_le); }
static void s_eq(step_in s, frame_in t) { map2(s, t->at, t->n, f_eq); }
static void s_neg(step_in s, frame_in t) { map1(s, t->at, t->n, f_neg); }
static void s_abs(step_in s, frame_in t) { map1(s, t->at, t->n, f_abs); }
static void s_sign(step_in s, frame_in t) { map1(s, t->at, t->n, f_sign); }
static void s_sqrt(step_in s, frame_in t) { map1(s, t->at, t->n, f_sqrt); }
static void s_rsqrt(step_in s, frame_in t) { map1(s, t->at, t->n, f_rsqrt); }
static void s_reciprocal(step_in s, frame_in t) { map1(s, t->at, t->n, f_reciprocal); }
static void s_square(step_in s, frame_in t) { map1(s, t->at, t->n, f_square); }
static void s_exp(step_in s, frame_in t) { map1(s, t->at, t->n, f_exp); }
static void s_log(step_in s, frame_in t) { map1(s, t->at, t->n, f_log); }
static void s_tanh(step_in s, frame_in t) { map1(s, t->at, t->n, f_tanh); }
static void s_sigmoid(step_in s, frame_in t) { map1(s, t->at, t->n, f_sigmoid); }
static void s_normal_cdf(step_in s, frame_in t) { map1(s, t->at, t->n, f_normal_cdf); }
static void s_madd(step_in s, frame_in t) { map3(s, t->at, t->n, f_madd); }
static void s_msub(step_in s, frame_in t) { map3(s, t->at, t->n, f_msub); }
static void s_nmadd(step_in s, frame_in t) { map3(s, t->at, t->n, f_nmadd); }
static void s_axpby(step_in s, frame_in t) { map4(s, t->at, t->n, 1); }
static void s_axmby(step_in s, frame_in t) { map4(s, t->at, t->n, -1); }
static void s_move(step_in s, frame_in t) { map1(s, t->at, t->n, f_move); }

static void s_fill(step_in s, frame_in t) {
  real *out = t->at[s->out], u = *t->at[s->in[0]];
  for (int i = 0; i < t->n; i++) out[i] = u;
}

// A flat condition chooses one operand for the whole tile.
static void s_where(step_in s, frame_in t) {
  if (!(s->form & 1)) {
    map3(s, t->at, t->n, f_where);
    return;
  }
  int chosen = *t->at[s->in[0]] != 0 ? 1 : 2;
  mbi_fuse_step copy = {.out = s->out, .in = {s->in[chosen]}};
  if (s->form >> chosen & 1) s_fill(&copy, t);
  else s_move(&copy, t);
}

// Numbers of the Philox blocks that the tile's elements lie in, number j of block b at [j][b], put in order.
static void in_order(step_in s, frame_in t, float value[restrict 4][TILE_BLOCKS]) {
  float ordered[4 * TILE_BLOCKS], *from = ordered + t->element % 4;
  real *out = t->at[s->out];
  for (int b = 0; b < TILE_BLOCKS; b++)
    for (int j = 0; j < 4; j++) ordered[4 * b + j] = value[j][b];
  for (int i = 0; i < t->n; i++) out[i] = (real)from[i];
}

static void tile_words(step_in s, frame_in t, uint32_t words[restrict 4][TILE_BLOCKS]) {
  uint64_t seed = t->run->seed, step = t->run->step, stream = t->run->stream + ((uint64_t)s->in[0] << 32);
  for (uint32_t b = 0; b < TILE_BLOCKS; b++) {
    uint32_t block[4];
    mbi_philox(block, seed, step, stream, (uint64_t)(t->element / 4) + b);
    words[0][b] = block[0];
    words[1][b] = block[1];
    words[2][b] = block[2];
    words[3][b] = block[3];
  }
}

static void s_uniform(step_in s, frame_in t) {
  uint32_t words[4][TILE_BLOCKS];
  float value[4][TILE_BLOCKS];
  tile_words(s, t, words);
  for (int j = 0; j < 4; j++)
    for (int b = 0; b < TILE_BLOCKS; b++) value[j][b] = mbk_unit(words[j][b]);
  in_order(s, t, value);
}

static void s_normal(step_in s, frame_in t) {
  uint32_t words[4][TILE_BLOCKS];
  float value[4][TILE_BLOCKS];
  tile_words(s, t, words);
  mbk_normal_pairs(value[0], value[1], words[0], words[1], TILE_BLOCKS);
  mbk_normal_pairs(value[2], value[3], words[2], words[3], TILE_BLOCKS);
  in_order(s, t, value);
}

static void (*const steps[MBI_FUSE_CODE_COUNT])(step_in, frame_in) = { /* ORDER FUSE */
  s_add, s_sub, s_mul, s_div, s_min, s_max, s_pow, s_lt, s_le, s_eq, s_neg, s_abs, s_sign, s_sqrt, s_rsqrt,
  s_reciprocal, s_square, s_exp, s_log, s_tanh, s_sigmoid, s_normal_cdf, s_where, s_madd, s_msub, s_nmadd, s_axpby, s_axmby, s_move, s_fill,
  s_uniform, s_normal,
};
#endif
