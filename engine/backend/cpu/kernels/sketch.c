// SPDX-License-Identifier: MIT
//
// sketch.c: products of a large matrix with a few vectors, for randomized singular values.
//
// G is (m, n), thin matrices are kept as q rows: X, T (q, n) and Y (q, m), so that every inner loop runs
// along contiguous memory. The cost is memory traffic, so G is read once where the textbook reads it twice:
// a block of rows of G is brought into cache, its columns of Y are formed, and its share of T = Y G is
// added at once. The update G += U^T P reads and writes G once.
//
// Work is cut by shape alone: a matrix into slabs of rows whose shares of T are added in order. So results
// depend neither on the number of threads nor on which matrices share a call.
//
// Loops work on tiles of R rows by C vectors, held in registers; R and C are constants at each call.
//
// Measured on two Zen 4 cores with AVX-512, the 48 matrices of GPT-2 124M (340 MB), q = 13: a pass takes 47 ms of one
// core, 40 of them multiply-adds at its peak; two passes and the update 69 ms on both, where copying the same bytes
// takes 38.
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/lapack.h"
#include "core/spectra.h"

#if defined __AVX512F__
enum { VECTOR_BYTES = 64, DOT_ROWS = 4, DOT_VECTORS = 6, ADD_ROWS = 8, ADD_VECTORS = 3 };
#elif defined __AVX__
enum { VECTOR_BYTES = 32, DOT_ROWS = 2, DOT_VECTORS = 5, ADD_ROWS = 6, ADD_VECTORS = 2 };
#else
enum { VECTOR_BYTES = 16, DOT_ROWS = 2, DOT_VECTORS = 5, ADD_ROWS = 6, ADD_VECTORS = 2 };
#endif
enum { LANES = VECTOR_BYTES / (int)sizeof(real) };
typedef real vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias)); // unaligned

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *p) { return *(const vec *)p; }
INLINE void store(real *p, vec v) { *(vec *)p = v; }

// ----- dots: out[r][c] = g_r . x_c ------------------------------------------------------------------

// Vectors of a half and a quarter of the lanes; the smallest vector has two lanes, and a quarter of one is a half.
enum { HALF_BYTES = VECTOR_BYTES / 2, QUARTER_BYTES = LANES >= 4 ? VECTOR_BYTES / 4 : HALF_BYTES };
typedef real half __attribute__((vector_size(HALF_BYTES)));
typedef real quarter __attribute__((vector_size(QUARTER_BYTES)));

INLINE real sum_lanes(vec v) {
  half low, high;
  memcpy(&low, &v, HALF_BYTES);
  memcpy(&high, (char *)&v + HALF_BYTES, HALF_BYTES);
  low += high;
  quarter rest, more;
  memcpy(&rest, &low, QUARTER_BYTES);
  if (QUARTER_BYTES < HALF_BYTES) {
    memcpy(&more, (char *)&low + QUARTER_BYTES, QUARTER_BYTES);
    rest += more;
  }
  real sum = 0;
  for (int i = 0; i < QUARTER_BYTES / (int)sizeof(real); i++) sum += rest[i];
  return sum;
}

// out[r * ldo + c], r < R, c < C.
INLINE void dot_tile(real *out, int64_t ldo, const real *g, int64_t ldg, const real *x, int64_t ldx, int64_t n, const int R, const int C) {
  vec acc[DOT_ROWS][DOT_VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) acc[r][c] = (vec){0};
  int64_t j = 0;
  for (; j + LANES <= n; j += LANES) {
    vec row[DOT_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) row[r] = load(g + r * ldg + j);
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) {
      vec v = load(x + c * ldx + j);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) acc[r][c] += row[r] * v;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) {
      real sum = sum_lanes(acc[r][c]);
      for (int64_t i = j; i < n; i++) sum += g[r * ldg + i] * x[c * ldx + i];
      out[r * ldo + c] = sum;
    }
}

INLINE void dot_rows(real *out, int64_t ldo, const real *g, int64_t ldg, const real *x, int64_t ldx, int64_t n, const int R, int c) {
  switch (c) {
    case 1: dot_tile(out, ldo, g, ldg, x, ldx, n, R, 1); break;
    case 2: dot_tile(out, ldo, g, ldg, x, ldx, n, R, 2); break;
    case 3: dot_tile(out, ldo, g, ldg, x, ldx, n, R, 3); break;
    case 4: dot_tile(out, ldo, g, ldg, x, ldx, n, R, 4); break;
    case 5: dot_tile(out, ldo, g, ldg, x, ldx, n, R, 5); break;
    default: dot_tile(out, ldo, g, ldg, x, ldx, n, R, DOT_VECTORS); break;
  }
}

// y[r * q + c] = g_r . x_c for r < rows, c < q.
static void dots(real *y, const real *g, const real *x, int64_t rows, int64_t n, int64_t q) {
  int64_t tiles = (q + DOT_VECTORS - 1) / DOT_VECTORS;
  int64_t r = 0;
  for (; r + DOT_ROWS <= rows; r += DOT_ROWS)
    for (int64_t t = 0, c = 0; t < tiles; t++) { // columns shared out evenly
      int width = (int)((q - c) / (tiles - t));
      dot_rows(y + r * q + c, q, g + r * n, n, x + c * n, n, n, DOT_ROWS, width);
      c += width;
    }
  for (; r < rows; r++)
    for (int64_t t = 0, c = 0; t < tiles; t++) {
      int width = (int)((q - c) / (tiles - t));
      dot_rows(y + r * q + c, q, g + r * n, n, x + c * n, n, n, 1, width);
      c += width;
    }
}

// ----- sums: t_i += sum over r of y[r][i] g_r ---------------------------------------------------------

// A block of rows is summed by itself and then added: fewer roundings at full size than one long sum.
// While rows are added, the rows that come after them in g are fetched: in a pass over G they are the next block,
// which then arrives from memory behind the arithmetic. So are the next rows of t, which in an update are G.
INLINE void add_tile(real *t, int64_t ldt, const real *y, int64_t ldy, const real *g, int64_t ldg, int64_t rows, const int R, const int C) {
  vec acc[ADD_ROWS][ADD_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) {
      acc[i][c] = (vec){0};
      __builtin_prefetch(t + (R + i) * ldt + c * LANES, 0, 2);
    }
  for (int64_t r = 0; r < rows; r++) {
    vec row[ADD_VECTORS];
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) {
      row[c] = load(g + r * ldg + c * LANES);
      __builtin_prefetch(g + (rows + r) * ldg + c * LANES, 0, 2);
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; i++)
#pragma GCC unroll 8
      for (int c = 0; c < C; c++) acc[i][c] += y[r * ldy + i] * row[c];
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) store(t + i * ldt + c * LANES, load(t + i * ldt + c * LANES) + acc[i][c]);
}

INLINE void add_columns(real *t, int64_t ldt, const real *y, int64_t ldy, const real *g, int64_t ldg, int64_t rows, int64_t n,
                        const int R) {
  int64_t j = 0;
  for (; j + ADD_VECTORS * LANES <= n; j += ADD_VECTORS * LANES) add_tile(t + j, ldt, y, ldy, g + j, ldg, rows, R, ADD_VECTORS);
  for (; j + LANES <= n; j += LANES) add_tile(t + j, ldt, y, ldy, g + j, ldg, rows, R, 1);
  for (; j < n; j++)
    for (int i = 0; i < R; i++) {
      real sum = 0;
      for (int64_t r = 0; r < rows; r++) sum += y[r * ldy + i] * g[r * ldg + j];
      t[i * ldt + j] += sum;
    }
}

// t (q, n) += y (rows, q)^T g (rows, n), of row strides ldt, ldy, ldg.
static void sums(real *t, int64_t ldt, const real *y, int64_t ldy, const real *g, int64_t ldg, int64_t rows, int64_t n, int64_t q) {
  int64_t tiles = (q + ADD_ROWS - 1) / ADD_ROWS;
  for (int64_t k = 0, i = 0; k < tiles; k++) {
    int height = (int)((q - i) / (tiles - k));
    switch (height) {
      case 1: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 1); break;
      case 2: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 2); break;
      case 3: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 3); break;
      case 4: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 4); break;
      case 5: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 5); break;
      case 6: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 6); break;
#if defined __AVX512F__
      case 7: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 7); break;
      default: add_columns(t + i * ldt, ldt, y + i, ldy, g, ldg, rows, n, 8); break;
#endif
    }
    i += height;
  }
}

// ----- starts -----------------------------------------------------------------------------------------

// Omega with the bases of the matrices that have one.
static void recall(const mbi_sketch *s) {
  int64_t q = s->q, n = s->n;
  real beside = (real)mbi_beside(n), behind = (real)mbi_behind(n);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < s->count * q; row++) {
    const real *first = (const real *)s->basis + row / q * q * n, *basis = first + row % q * n;
    real *omega = (real *)s->omega + row * n;
    if (isnan(first[0])) continue;
    if (row % q < s->kept)
      for (int64_t j = 0; j < n; j++) omega[j] = basis[j] + beside * omega[j];
    else
      for (int64_t j = 0; j < n; j++) omega[j] *= behind;
  }
}

mb_status MBK(sketch_draw)(const mbi_sketch *s, int64_t groups, uint64_t seed, uint64_t step, uint64_t stream) {
  for (int64_t at = 0; at < groups; at++, s++) {
    int64_t size = s->q * s->n;
    for (int64_t i = 0; i < s->count; i++)
      MB_TRY(MBK(random_normal)((real *)s->omega + i * size, size, 0, 1, seed, step, stream ^ (uint64_t)s->place[i] << 32));
    if (s->basis) recall(s);
  }
  return MB_OK;
}

// ----- pass -------------------------------------------------------------------------------------------

// Rows of G that stay in cache between the two products.
enum { BLOCK_ROWS = 32 };

// A slab has at least SLAB_ROWS rows and about SLAB_ELEMENTS elements: enough that its share of T is small beside it.
static int64_t slab_count(int64_t m, int64_t n) {
  enum { SLAB_ROWS = 192, SLAB_ELEMENTS = 1 << 18, MOST = 16 };
  int64_t by_rows = m / SLAB_ROWS, by_size = m * n / SLAB_ELEMENTS, slabs = by_rows < by_size ? by_rows : by_size;
  return slabs < 1 ? 1 : slabs > MOST ? MOST : slabs;
}

// Rows [first, last) of y, or those given, and their share of t if it is not NULL. `rows` holds BLOCK_ROWS * q numbers.
static void pass_slab(real *y, real *t, const real *x, const real *g, real scale, int64_t m, int64_t n, int64_t q, int64_t first,
                      int64_t last, real *rows) {
  if (t) memset(t, 0, sizeof(real) * (size_t)(q * n));
  for (int64_t r = first; r < last; r += BLOCK_ROWS) {
    int64_t height = last - r < BLOCK_ROWS ? last - r : BLOCK_ROWS;
    if (x) dots(rows, g + r * n, x, height, n, q);
    for (int64_t k = 0; k < height; k++)
      for (int64_t i = 0; i < q; i++)
        if (x) y[i * m + r + k] = rows[k * q + i];
        else rows[k * q + i] = y[i * m + r + k];
    if (!t) continue;
    if (scale != 1)
      for (int64_t k = 0; k < height * q; k++) rows[k] *= scale;
    sums(t, n, rows, q, g + r * n, n, height, n, q);
  }
}

static mb_status pass(const mbi_sketch *s, int forms) {
  int forms_y = forms & MBI_FORMS_Y, forms_t = forms & MBI_FORMS_T;
  const real *from = forms & MBI_FROM_OMEGA ? s->omega : s->x;
  int64_t m = s->m, n = s->n, q = s->q, thin = q * n, slabs = slab_count(m, n);
  int64_t mine = thin + BLOCK_ROWS * q + 16, *members, count;
  void *memory, *shares = NULL;
  MB_TRY(mbk_members(&members, &count, &s->mask, s->count));
  MB_TRY(mbi_scratch(&memory, 0, (size_t)(mine * omp_get_max_threads()) * sizeof(real)));
  if (slabs > 1 && forms_t) MB_TRY(mbi_scratch(&shares, 1, (size_t)((slabs - 1) * count * thin) * sizeof(real)));
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < count * slabs; task++) {
    int64_t at = task / slabs, i = members[at], slab = task % slabs;
    real *rows = (real *)memory + mine * omp_get_thread_num(), *scaled = rows + BLOCK_ROWS * q;
    const real *x = forms_y ? from + i * thin : NULL;
    real *t = slab == 0 ? (real *)s->t + i * thin : (real *)shares + (at * (slabs - 1) + slab - 1) * thin, scale = (real)s->scale[i];
    if (x && scale != 1) {
      for (int64_t j = 0; j < thin; j++) scaled[j] = x[j] * scale;
      x = scaled;
    }
    pass_slab((real *)s->y + i * q * m, forms_t ? t : NULL, x, s->g[i], scale, m, n, q, m * slab / slabs, m * (slab + 1) / slabs, rows);
  }
  if (slabs == 1 || !forms_t) return MB_OK;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < count * q; row++) {
    real *t = (real *)s->t + (members[row / q] * q + row % q) * n;
    for (int64_t slab = 1; slab < slabs; slab++) {
      const real *share = (const real *)shares + (row / q * (slabs - 1) + slab - 1) * thin + row % q * n;
      for (int64_t j = 0; j < n; j++) t[j] += share[j];
    }
  }
  return MB_OK;
}

mb_status MBK(sketch_pass)(const mbi_sketch *s, int64_t groups, int forms) {
  for (int64_t at = 0; at < groups; at++) MB_TRY(pass(s + at, forms));
  return MB_OK;
}

// ----- small matrices, in float64 -----------------------------------------------------------------------

enum { WIDE = VECTOR_BYTES / (int)sizeof(double) };
#if defined __AVX512F__
enum { GRAM_ROWS = 4, GRAM_COLUMNS = 4 };
#else
enum { GRAM_ROWS = 2, GRAM_COLUMNS = 4 };
#endif
typedef double wide __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(double)), may_alias));
typedef real narrow __attribute__((vector_size(WIDE * (int)sizeof(real)), aligned(sizeof(real)), may_alias));

INLINE wide load_wide(const real *p) { return __builtin_convertvector(*(const narrow *)p, wide); }

// gram (q, q) = x x^T, x (q, n); tiles that reach beyond q repeat the last row and drop the result.
static void gram_of(double *gram, const real *x, int64_t q, int64_t n) {
  for (int64_t i0 = 0; i0 < q; i0 += GRAM_ROWS)
    for (int64_t j0 = i0 / GRAM_COLUMNS * GRAM_COLUMNS; j0 < q; j0 += GRAM_COLUMNS) {
      const real *a[GRAM_ROWS], *b[GRAM_COLUMNS];
      for (int i = 0; i < GRAM_ROWS; i++) a[i] = x + (i0 + i < q ? i0 + i : q - 1) * n;
      for (int j = 0; j < GRAM_COLUMNS; j++) b[j] = x + (j0 + j < q ? j0 + j : q - 1) * n;
      wide acc[GRAM_ROWS][GRAM_COLUMNS] = {{{0}}};
      int64_t k = 0;
      for (; k + WIDE <= n; k += WIDE) {
        wide row[GRAM_ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < GRAM_ROWS; i++) row[i] = load_wide(a[i] + k);
#pragma GCC unroll 4
        for (int j = 0; j < GRAM_COLUMNS; j++) {
          wide v = load_wide(b[j] + k);
#pragma GCC unroll 4
          for (int i = 0; i < GRAM_ROWS; i++) acc[i][j] += row[i] * v;
        }
      }
      for (int i = 0; i < GRAM_ROWS && i0 + i < q; i++)
        for (int j = 0; j < GRAM_COLUMNS && j0 + j < q; j++) {
          double sum = 0;
          for (int lane = 0; lane < WIDE; lane++) sum += acc[i][j][lane];
          for (int64_t rest = k; rest < n; rest++) sum += (double)a[i][rest] * (double)b[j][rest];
          gram[(i0 + i) * q + j0 + j] = gram[(j0 + j) * q + i0 + i] = sum;
        }
    }
}

enum { STRIP = 256, MIX_ROWS = 4, MIX_VECTORS = 2, MIX_WIDTH = MIX_VECTORS * WIDE };

// Columns [start, start + STRIP) of out (c, n) = a (c, q) x (q, n), up to n. In float64: where the rows of x are
// nearly parallel, their small differences are what counts. `strip` holds STRIP * q numbers.
static void mix_strip(real *out, const double *a, const real *x, int64_t c, int64_t q, int64_t n, int64_t start, double *strip) {
  int64_t width = n - start < STRIP ? n - start : STRIP;
  for (int64_t k = 0; k < q; k++)
    for (int64_t j = 0; j < STRIP; j++) strip[k * STRIP + j] = j < width ? (double)x[k * n + start + j] : 0;
  for (int64_t i = 0; i < c; i += MIX_ROWS) {
    const double *row[MIX_ROWS]; // beyond c the last row again, its result dropped
    for (int r = 0; r < MIX_ROWS; r++) row[r] = a + (i + r < c ? i + r : c - 1) * q;
    for (int64_t j = 0; j < width; j += MIX_WIDTH) {
      wide acc[MIX_ROWS][MIX_VECTORS] = {{{0}}};
      for (int64_t k = 0; k < q; k++)
#pragma GCC unroll 2
        for (int v = 0; v < MIX_VECTORS; v++) {
          wide number = *(const wide *)(strip + k * STRIP + j + v * WIDE);
#pragma GCC unroll 4
          for (int r = 0; r < MIX_ROWS; r++) acc[r][v] += row[r][k] * number;
        }
      for (int r = 0; r < MIX_ROWS && i + r < c; r++)
        for (int64_t lane = 0; lane < MIX_WIDTH && j + lane < width; lane++)
          out[(i + r) * n + start + j + lane] = (real)acc[r][lane / WIDE][lane % WIDE];
    }
  }
}

static void mix(real *out, const double *a, const real *x, int64_t c, int64_t q, int64_t n, double *strip) {
  for (int64_t start = 0; start < n; start += STRIP) mix_strip(out, a, x, c, q, n, start, strip);
}

static void flag(int64_t *flags, const double *size, const mbi_sketch_limits *limits) {
  if (!limits || !(*flags & MBI_FINITE)) return;
  if (!(size[0] >= limits->low && size[0] <= limits->high)) *flags |= MBI_EXTREME;
  else if (size[1] < limits->ratio * size[0]) *flags |= MBI_STEEP;
}

static mb_status basis(const mbi_sketch *s, void *out, const void *x, int64_t n, const mbi_sketch_limits *limits) {
  // Turning the rows into their singular directions leaves them orthogonal to 1e-16 times the ratio of their squared
  // sizes. Where that is not good enough they are made so once more, from the Gram matrix of what by then have unit length.
  static const double ratio = 3e-5, cut = 1e-12;
  int64_t q = s->q, square = q * q, doubles = 2 * square + q * STRIP, *members, count;
  double *sizes = s->sizes;
  size_t mine = (size_t)doubles * sizeof(double) + mbi_small_bytes(q);
  void *memory;
  MB_TRY(mbk_members(&members, &count, &s->mask, s->count));
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t at = 0; at < count; at++) {
    int64_t i = members[at];
    double *gram = (double *)(void *)((char *)memory + mine * (size_t)omp_get_thread_num()), *a = gram + square, *strip = a + square;
    real *made = (real *)out + i * q * n;
    gram_of(gram, (const real *)x + i * q * n, q, n);
    if (mbi_align(a, sizes + 2 * i, gram, q, gram + doubles) != 0) failed = 1;
    mix(made, a, (const real *)x + i * q * n, q, q, n, strip);
    flag(s->mask.flags + i, sizes + 2 * i, limits);
    if (!(sizes[2 * i] > 0) || sizes[2 * i + 1] > ratio * sizes[2 * i]) continue;
    gram_of(gram, made, q, n);
    mbi_orthonormal(a, gram, q, cut, 0);
    mix(made, a, made, q, q, n, strip);
  }
  if (failed)
    MB_FAIL(MB_ERR_NUMERIC, "sketch of %lld vectors of length %lld: the eigenproblem did not converge", (long long)q, (long long)n);
  return MB_OK;
}

mb_status MBK(sketch_basis)(const mbi_sketch *s, int64_t groups, int of_y, const mbi_sketch_limits *limits) {
  for (int64_t at = 0; at < groups; at++, s++) MB_TRY(basis(s, of_y ? s->y : s->x, of_y ? s->y : s->t, of_y ? s->m : s->n, limits));
  return MB_OK;
}

static mb_status ritz(const mbi_sketch *s) {
  // Rows of y as short as the rounding of y_0 point anywhere: made orthonormal they would come out with singular values
  // above that rounding, and turn the other directions by as much.
  static const double cut = 1e-6, floor = sizeof(real) == sizeof(float) ? 1e-13 : 1e-28;
  int64_t q = s->q, square = q * q, *members, count;
  size_t mine = (size_t)(2 * square) * sizeof(double) + mbi_small_bytes(q);
  void *memory;
  MB_TRY(mbk_members(&members, &count, &s->mask, s->count));
  MB_TRY(mbi_scratch(&memory, 0, mine * (size_t)omp_get_max_threads()));
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(max : failed)
  for (int64_t at = 0; at < count; at++) {
    int64_t i = members[at];
    double *gram_y = (double *)(void *)((char *)memory + mine * (size_t)omp_get_thread_num()), *gram_t = gram_y + square;
    gram_of(gram_y, (const real *)s->y + i * q * s->m, q, s->m);
    gram_of(gram_t, (const real *)s->t + i * q * s->n, q, s->n);
    if (mbi_ritz(s->w + i * square, s->sigma + i * q, gram_y, gram_t, q, cut, floor, gram_t + square) != 0) failed = 1;
  }
  if (failed)
    MB_FAIL(MB_ERR_NUMERIC, "sketch of matrices (%lld, %lld): the eigenproblem did not converge", (long long)s->m, (long long)s->n);
  return MB_OK;
}

mb_status MBK(sketch_ritz)(const mbi_sketch *s, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) MB_TRY(ritz(s + at));
  return MB_OK;
}

static mb_status keep(const mbi_sketch *s) {
  int64_t q = s->q, square = q * q, doubles = square + q * STRIP, *members, count;
  void *memory;
  MB_TRY(mbk_members(&members, &count, &s->mask, s->count));
  MB_TRY(mbi_scratch(&memory, 0, (size_t)(doubles * omp_get_max_threads()) * sizeof(double)));
#pragma omp parallel for schedule(static)
  for (int64_t at = 0; at < count; at++) {
    int64_t i = members[at];
    const double *w = s->w + i * square, *sigma = s->sigma + i * q;
    double *a = (double *)memory + doubles * omp_get_thread_num(), *strip = a + square;
    for (int64_t j = 0; j < q; j++)
      for (int64_t k = 0; k < q; k++) a[j * q + k] = w[j * q + k] * mbi_direction(sigma[j], sigma[0]);
    mix((real *)s->basis + i * q * s->n, a, (const real *)s->t + i * q * s->n, q, q, s->n, strip);
  }
  return MB_OK;
}

mb_status MBK(sketch_keep)(const mbi_sketch *s, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) MB_TRY(keep(s + at));
  return MB_OK;
}

// ----- update -----------------------------------------------------------------------------------------

// The rows of w that change, as factors of y, and times gain / scale, as factors of t; returns how many.
static int64_t gather(double *left, double *right, const mbi_sketch *s, int64_t i) {
  int64_t q = s->q, changed = 0;
  const double *gain = s->gain;
  for (int64_t j = 0; j < q; j++) {
    if (gain[i * q + j] == 0) continue;
    for (int64_t k = 0; k < q; k++) {
      left[changed * q + k] = s->w[(i * q + j) * q + k];
      right[changed * q + k] = left[changed * q + k] * (gain[i * q + j] / s->scale[i]);
    }
    changed++;
  }
  return changed;
}

static mb_status change(const mbi_sketch *s) {
  enum { SLAB_ROWS = 64 };
  int64_t m = s->m, n = s->n, q = s->q, square = q * q, mine = q * STRIP, most = 0;
  void *memory, *thin;
  MB_TRY(mbi_scratch(&memory, 0, (size_t)(2 * s->count * square + s->count + omp_get_max_threads() * mine) * sizeof(double)));
  double *left = memory, *right = left + s->count * square, *room = right + s->count * square + s->count;
  int64_t *changed = (int64_t *)(void *)(right + s->count * square);
  for (int64_t i = 0; i < s->count; i++) {
    changed[i] = gather(left + i * square, right + i * square, s, i);
    most = changed[i] > most ? changed[i] : most;
  }
  if (most == 0) return MB_OK;
  MB_TRY(mbi_scratch(&thin, 1, (size_t)(s->count * most * (m + n)) * sizeof(real)));
  real *u = thin, *p = u + s->count * most * m; // (count, most, m) and (count, most, n)
  int64_t strips_m = (m + STRIP - 1) / STRIP, strips = strips_m + (n + STRIP - 1) / STRIP, slabs = (m + SLAB_ROWS - 1) / SLAB_ROWS;
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < s->count * strips; task++) {
    int64_t i = task / strips, strip = task % strips;
    double *own = room + omp_get_thread_num() * mine;
    if (changed[i] == 0) continue;
    if (strip < strips_m)
      mix_strip(u + i * most * m, left + i * square, (const real *)s->y + i * q * m, changed[i], q, m, strip * STRIP, own);
    else
      mix_strip(p + i * most * n, right + i * square, (const real *)s->t + i * q * n, changed[i], q, n, (strip - strips_m) * STRIP, own);
  }
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < s->count * slabs; task++) {
    int64_t i = task / slabs, first = task % slabs * SLAB_ROWS, rows = m - first < SLAB_ROWS ? m - first : SLAB_ROWS;
    if (changed[i] > 0) sums((real *)s->g[i] + first * n, n, u + i * most * m + first, m, p + i * most * n, n, changed[i], n, rows);
  }
  return MB_OK;
}

mb_status MBK(sketch_update)(const mbi_sketch *s, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) MB_TRY(change(s + at));
  return MB_OK;
}
