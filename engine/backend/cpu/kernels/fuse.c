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

enum { TILE = 512 / (int)sizeof(real), TEMPS = 0, UNIFORMS = 1, STEPS = 2, MOVING = 3 /* scratch slots */ };

// A step of one thread, its operands at the tile in hand.
typedef struct operands operands;
struct operands {
  real *out;
  real *in[4]; // of a uniform operand: its one number
  int form, n;
  void (*run)(const operands *);
};

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
INLINE void map1(const operands *o, real (*f)(real)) {
  if (o->n == TILE) loop1(o->out, o->in[0], TILE, f);
  else loop1(o->out, o->in[0], o->n, f);
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
INLINE void map2(const operands *o, real (*f)(real, real)) {
  if (o->n == TILE) loop2(o->out, o->in[0], o->in[1], o->form, TILE, f);
  else loop2(o->out, o->in[0], o->in[1], o->form, o->n, f);
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
INLINE void map3(const operands *o, real (*f)(real, real, real)) {
  if (o->n == TILE) loop3(o->out, o->in[0], o->in[1], o->in[2], o->form, TILE, f);
  else loop3(o->out, o->in[0], o->in[1], o->in[2], o->form, o->n, f);
}

// a u + b v or a u - b v.
INLINE void loop4(real *out, const real *a, real u, const real *b, real v, int n) {
#pragma GCC ivdep
  for (int i = 0; i < n; i++) out[i] = a[i] * u + b[i] * v;
}
INLINE void map4(const operands *o, real v) {
  if (o->n == TILE) loop4(o->out, o->in[0], *o->in[1], o->in[2], v, TILE);
  else loop4(o->out, o->in[0], *o->in[1], o->in[2], v, o->n);
}

// ----- steps --------------------------------------------------------------------------------------------

static void s_add(const operands *o) { map2(o, f_add); }
static void s_sub(const operands *o) { map2(o, f_sub); }
static void s_mul(const operands *o) { map2(o, f_mul); }
static void s_div(const operands *o) { map2(o, f_div); }
static void s_min(const operands *o) { map2(o, f_min); }
static void s_max(const operands *o) { map2(o, f_max); }
static void s_pow(const operands *o) { map2(o, f_pow); }
static void s_lt(const operands *o) { map2(o, f_lt); }
static void s_le(const operands *o) { map2(o, f_le); }
static void s_eq(const operands *o) { map2(o, f_eq); }
static void s_neg(const operands *o) { map1(o, f_neg); }
static void s_abs(const operands *o) { map1(o, f_abs); }
static void s_sign(const operands *o) { map1(o, f_sign); }
static void s_sqrt(const operands *o) { map1(o, f_sqrt); }
static void s_rsqrt(const operands *o) { map1(o, f_rsqrt); }
static void s_reciprocal(const operands *o) { map1(o, f_reciprocal); }
static void s_square(const operands *o) { map1(o, f_square); }
static void s_exp(const operands *o) { map1(o, f_exp); }
static void s_log(const operands *o) { map1(o, f_log); }
static void s_tanh(const operands *o) { map1(o, f_tanh); }
static void s_sigmoid(const operands *o) { map1(o, f_sigmoid); }
static void s_madd(const operands *o) { map3(o, f_madd); }
static void s_msub(const operands *o) { map3(o, f_msub); }
static void s_nmadd(const operands *o) { map3(o, f_nmadd); }
static void s_axpby(const operands *o) { map4(o, *o->in[3]); }
static void s_axmby(const operands *o) { map4(o, -*o->in[3]); }
static void s_move(const operands *o) { map1(o, f_move); }

static void s_fill(const operands *o) {
  real u = *o->in[0];
  for (int i = 0; i < o->n; i++) o->out[i] = u;
}

// A uniform condition chooses one operand for the whole tile.
static void s_where(const operands *o) {
  if (!(o->form & 1)) {
    map3(o, f_where);
    return;
  }
  int chosen = *o->in[0] != 0 ? 1 : 2;
  operands copy = {.out = o->out, .in = {o->in[chosen]}, .n = o->n};
  if (o->form >> chosen & 1) s_fill(&copy);
  else s_move(&copy);
}

static void (*const steps[MBI_FUSE_CODE_COUNT])(const operands *) = { /* ORDER FUSE */
  s_add, s_sub, s_mul, s_div, s_min, s_max, s_pow, s_lt, s_le, s_eq, s_neg, s_abs, s_sign, s_sqrt, s_rsqrt,
  s_reciprocal, s_square, s_exp, s_log, s_tanh, s_sigmoid, s_where, s_madd, s_msub, s_nmadd, s_axpby, s_axmby, s_move, s_fill,
};

// ----- tiles --------------------------------------------------------------------------------------------

static inline int64_t tiles_of(int64_t begin, int64_t end) { return (end + TILE - 1) / TILE - begin / TILE; }

// A program bound to one thread. moving[i] is the address of a pointer in `steps` that walks through an array.
typedef struct bound {
  const mbi_fuse_run *run;
  operands *steps;
  real ***moving;
  int n_moving;
  int64_t element; // where the moving pointers are
  int n;
} bound;

static void run_tile(bound *b, int64_t element, int n) {
  int64_t move = element - b->element;
  for (int i = 0; i < b->n_moving; i++) *b->moving[i] += move;
  b->element = element;
  int n_steps = b->run->n_steps;
  if (n != b->n)
    for (int s = 0; s < n_steps; s++) b->steps[s].n = n;
  b->n = n;
  for (int s = 0; s < n_steps; s++) b->steps[s].run(&b->steps[s]);
}

// Tiles [first, last) of all ranges, counted through.
static void run_tiles(bound *b, int64_t first, int64_t last) {
  const mbi_fuse_run *run = b->run;
  int64_t passed = 0;
  for (int64_t r = 0; r < run->n_ranges && passed < last; r++) {
    int64_t begin = run->begin[r], end = run->end[r], count = tiles_of(begin, end);
    int64_t from = first > passed ? first - passed : 0, to = last - passed < count ? last - passed : count;
    for (int64_t tile = begin / TILE + from; tile < begin / TILE + to; tile++) {
      int64_t start = tile * TILE < begin ? begin : tile * TILE, stop = (tile + 1) * TILE < end ? (tile + 1) * TILE : end;
      run_tile(b, start, (int)(stop - start));
    }
    passed += count;
  }
}

static void bind(bound *b, const mbi_fuse_run *run, real *uniforms, real *temps) {
  *b = (bound){.run = run, .steps = b->steps, .moving = b->moving};
  for (int s = 0; s < run->n_steps; s++) {
    const mbi_fuse_step *step = &run->steps[s];
    operands *o = &b->steps[s];
    *o = (operands){.form = step->form, .run = steps[step->code]};
    for (int i = -1; i < step->n_inputs; i++) {
      int operand = i < 0 ? step->out : step->in[i], temp = operand - run->n_arrays - run->n_uniforms;
      real **place = i < 0 ? &o->out : &o->in[i];
      if (operand < run->n_arrays) *place = run->arrays[operand], b->moving[b->n_moving++] = place;
      else *place = temp < 0 ? uniforms + operand - run->n_arrays : temps + temp * TILE;
    }
  }
}

// A multiple of a pair of cache lines: threads write to their own all the time.
static size_t padded(size_t bytes) { return (bytes + 255) / 128 * 128; }

mb_status MBK(fuse)(const mbi_fuse_run *run) {
  int64_t tiles = 0;
  for (int64_t r = 0; r < run->n_ranges; r++) tiles += tiles_of(run->begin[r], run->end[r]);
  size_t threads = tiles * TILE >= MBK_PARALLEL_FROM ? (size_t)omp_get_max_threads() : 1;
  size_t temps_bytes = (size_t)run->n_temps * TILE * sizeof(real), steps_bytes = padded((size_t)run->n_steps * sizeof(operands));
  size_t moving_bytes = padded(5 * (size_t)run->n_steps * sizeof(real **));
  void *temps, *uniforms, *bound_steps, *moving;
  MB_TRY(mbi_scratch(&temps, TEMPS, threads * temps_bytes + 1));
  MB_TRY(mbi_scratch(&uniforms, UNIFORMS, padded((size_t)run->n_uniforms * sizeof(real))));
  MB_TRY(mbi_scratch(&bound_steps, STEPS, threads * steps_bytes));
  MB_TRY(mbi_scratch(&moving, MOVING, threads * moving_bytes));
  for (int i = 0; i < run->n_uniforms; i++) ((real *)uniforms)[i] = (real)run->uniforms[i];
#pragma omp parallel num_threads((int)threads)
  {
    size_t thread = (size_t)omp_get_thread_num();
    int64_t of = omp_get_num_threads();
    bound b = {.steps = (void *)((char *)bound_steps + thread * steps_bytes), .moving = (void *)((char *)moving + thread * moving_bytes)};
    bind(&b, run, uniforms, (void *)((char *)temps + thread * temps_bytes));
    run_tiles(&b, tiles * (int64_t)thread / of, tiles * ((int64_t)thread + 1) / of);
  }
  return MB_OK;
}
