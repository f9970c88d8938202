// SPDX-License-Identifier: MIT
//
// half.c: Newton-Schulz with factors of binary16 and sums of float32. Ten bits of fraction are enough for what seven are not: to
// make steps on the Gram matrix R = X X^T (or X^T X, whichever is smaller) alone, where a value sigma is known as sigma^2.
//   B = b R + c R R;  Q <- B Q + a Q;  T = B R + a R;  R <- T B + a T;        and in the end X <- Q X (or X Q)
// with Q = B + a I after the first step. A step that is made so takes 4 s^3 multiplications, s = min(m, n), and one on X
// itself 2 s^2 l + s^3, l = max(m, n): where l is 2 s or more, fewer. All matrices R of one s are one batch of products, whatever
// l was: more of a GPU's waves of tiles are full.
//
// Rounding leaves values near 0 in R that are not there; every step makes them a^2 times as large (12 for Muon's), and X is made
// of them. So R is formed anew of X after the first two steps and then after every three: five steps as two and three take
// 4 s^2 l + 14 s^3 instead of 10 s^2 l + 5 s^3. Emulated in PyTorch against float64, on spectra that are flat, Gaussian, 1 / i,
// 1 / i^2, exponential, of half or low rank, of one large value, with rows of all sizes, for s of 4 to 256, l / s of 1, 2 and 4,
// both methods: nowhere is the result farther off, in Frobenius' norm, than with bf16 on X, and from s = 64 on it is by less than half
// as much. Of 768 x 3072: Gaussian 0.15 % where bf16 leaves 1.03, 1 / i 0.70 and 3.2, exponential 1.5 and 6.7, 1 / i^2 2.1 and 17.
// Three steps first are worse for small s, four together diverge.
//
// Range: X is kept 2^14 times and the small matrices 2^9 times as large as they are. Entries of X are at most its largest singular
// value, below 1.3 throughout, those of R at most 1.7, of B 9, of Q 42 (three of Muon's steps, two of Polar Express): the largest
// number is 22,000 of 65,504. What is lost at the other end is below 2^-38 of the length of X, and 2^-33 of R.
#include "spectral/half.h"

#include <stdlib.h>

#include "core/status.h"
#include "core/tensor.h"

static const double X_SCALE = 16384, SMALL_SCALE = 512;
enum { MOST_TOGETHER = 3, MOST_AT_FIRST = 2, ALIGNMENT = 64 };

// Groups whose small matrices are alike, and their memory.
typedef struct team {
  mbi_half_group **group;
  int64_t n_groups, count, s; // count: matrices of all groups
  int is_long;                // l >= 2 s
  mb_device device;
  mb_tensor *memory;
  void *r, *spare[3];         // (count, s, s) each
} team;

static int64_t smaller(const mbi_half_group *g) { return g->m < g->n ? g->m : g->n; }
static int64_t larger(const mbi_half_group *g) { return g->m < g->n ? g->n : g->m; }
static int is_long(const mbi_half_group *g) { return larger(g) >= 2 * smaller(g); }
static int64_t rounded_up(int64_t elements) { return (elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

// ----- memory -------------------------------------------------------------------------------------------------

static mb_status team_memory(team *t) {
  int64_t small = rounded_up(t->count * t->s * t->s), all = 4 * small;
  for (int64_t i = 0; i < t->n_groups; i++) all += 2 * rounded_up(t->group[i]->count * t->group[i]->m * t->group[i]->n);
  mbi_shape shape = {.ndim = 1, .size = {all}};
  MB_TRY(mbi_tensor_new(&t->memory, t->device, MB_BF16, &shape)); // for its size
  uint16_t *next = mbi_data(t->memory);
  t->r = next, next += small;
  for (int i = 0; i < 3; i++) t->spare[i] = next, next += small;
  for (int64_t i = 0; i < t->n_groups; i++) {
    mbi_half_group *g = t->group[i];
    int64_t size = rounded_up(g->count * g->m * g->n);
    g->x = next, next += size;
    g->y = next, next += size;
  }
  return MB_OK;
}

// ----- products -----------------------------------------------------------------------------------------------

static const mbi_kernels *kernels(const team *t) { return mbi_device_of(t->device)->kernels[MB_BF16]; }

// C = alpha A B + beta D of the team's small matrices.
static mb_status small_product(const team *t, void *c, const void *a, const void *b, double alpha, double beta, const void *d) {
  int64_t s = t->s;
  mbi_gemm product = {.m = s, .n = s, .k = s, .alpha = alpha / SMALL_SCALE, .beta = beta, .a = a, .b = b, .c = c, .from = d, .lda = s,
                      .ldb = s, .ldc = s, .batch = t->count, .stride_a = s * s, .stride_b = s * s, .stride_c = s * s, .half = 1};
  return kernels(t)->gemm(&product);
}

// R of every X.
static mb_status form_gram(const team *t) {
  uint16_t *r = t->r;
  for (int64_t i = 0; i < t->n_groups; i++) {
    const mbi_half_group *g = t->group[i];
    int tall = g->m > g->n;
    mbi_gemm gram = {.transpose_a = tall, .transpose_b = !tall, .m = t->s, .n = t->s, .k = larger(g), .a = g->x, .b = g->x, .c = r,
                     .alpha = SMALL_SCALE / (X_SCALE * X_SCALE), .lda = g->n, .ldb = g->n, .ldc = t->s, .batch = g->count,
                     .stride_a = g->m * g->n, .stride_b = g->m * g->n, .stride_c = t->s * t->s, .half = 1};
    MB_TRY(kernels(t)->gemm(&gram));
    r += g->count * t->s * t->s;
  }
  return MB_OK;
}

// X <- Q X, or X Q; with the last one the result, in float32.
static mb_status apply(const team *t, const uint16_t *q, int is_last) {
  for (int64_t i = 0; i < t->n_groups; i++) {
    mbi_half_group *g = t->group[i];
    int tall = g->m > g->n;
    int64_t large = g->m * g->n, small = t->s * t->s;
    mbi_gemm product = {.m = g->m, .n = g->n, .k = t->s, .alpha = (is_last ? g->scale / X_SCALE : 1) / SMALL_SCALE,
                        .a = tall ? g->x : q, .b = tall ? q : g->x, .c = is_last ? mbi_data(g->to) : g->y, .lda = t->s, .ldb = g->n,
                        .ldc = g->n, .batch = g->count, .stride_a = tall ? large : small, .stride_b = tall ? small : large,
                        .stride_c = large, .c_is_wide = is_last, .half = 1};
    MB_TRY(kernels(t)->gemm(&product));
    q += g->count * small;
    void *x = g->x;
    g->x = g->y;
    g->y = x;
  }
  return MB_OK;
}

// ----- steps --------------------------------------------------------------------------------------------------

static void exchange(void **a, void **b) {
  void *last = *a;
  *a = *b;
  *b = last;
}

// n steps with one R, the last of all if is_last. B is made in spare[0], T and then the next Q in spare[1]; Q is kept in spare[2].
static mb_status steps_on_gram(team *t, const mbi_quintic *p, int n, int is_last) {
  void **spare = t->spare;
  MB_TRY(form_gram(t));
  for (int i = 0; i < n; i++) {
    MB_TRY(small_product(t, spare[0], t->r, t->r, p[i].c, p[i].b, t->r));
    if (i < n - 1) {
      MB_TRY(small_product(t, spare[1], spare[0], t->r, 1, p[i].a, t->r));
      MB_TRY(small_product(t, t->r, spare[1], spare[0], 1, p[i].a, spare[1]));
    }
    if (i == 0) {
      MB_TRY(kernels(t)->add_to_diagonal(spare[0], (mb_dtype)MBI_F16, t->count, t->s, SMALL_SCALE * p[i].a));
      exchange(&spare[0], &spare[2]);
    } else {
      MB_TRY(small_product(t, spare[1], spare[0], spare[2], 1, p[i].a, spare[2]));
      exchange(&spare[1], &spare[2]);
    }
  }
  return apply(t, spare[2], is_last);
}

static mb_status iterate(team *t, const mbi_polynomials *p) {
  for (int64_t i = 0; i < t->n_groups; i++) {
    const mbi_half_group *g = t->group[i];
    MB_TRY(mbi_kernels_of(g->from)->normalize(g->x, (mb_dtype)MBI_F16, NULL, 0, mbi_data(g->from), g->count, g->m * g->n,
                                              X_SCALE * p->factor, p->epsilon));
  }
  for (int done = 0, n; done < p->n; done += n) {
    int most = !t->is_long ? 1 : done == 0 ? MOST_AT_FIRST : MOST_TOGETHER;
    n = p->n - done < most ? p->n - done : most;
    MB_TRY(steps_on_gram(t, p->steps + done, n, done + n == p->n));
  }
  return MB_OK;
}

// ----- teams --------------------------------------------------------------------------------------------------

// The team of the first group that has none, whose members are noted in `taken`; none is left: n_groups is 0.
static void next_team(team *t, mbi_half_group *groups, int64_t count, char *taken) {
  t->n_groups = t->count = 0;
  for (int64_t i = 0; i < count; i++) {
    mbi_half_group *g = &groups[i];
    if (taken[i] || (t->n_groups > 0 && (smaller(g) != t->s || is_long(g) != t->is_long))) continue;
    t->s = smaller(g), t->is_long = is_long(g), t->device = g->from->storage->device;
    t->group[t->n_groups++] = g, t->count += g->count, taken[i] = 1;
  }
}

mb_status mbi_msign_half(mbi_half_group *groups, int64_t count, const mbi_polynomials *p) {
  team t = {.group = calloc((size_t)count, sizeof *t.group)};
  char *taken = calloc((size_t)count, 1);
  mb_status status = t.group && taken ? MB_OK : mbi_fail(MB_ERR_NOMEM, "mb_msign: %lld groups of matrices", (long long)count);
  while (status == MB_OK) {
    next_team(&t, groups, count, taken);
    if (t.n_groups == 0) break;
    t.memory = NULL;
    status = team_memory(&t);
    if (status == MB_OK) status = iterate(&t, p);
    mb_tensor_release(t.memory);
  }
  free(t.group), free(taken);
  return status;
}
