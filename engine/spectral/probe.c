// SPDX-License-Identifier: MIT
//
// probe.c: singular values of many matrices, and the factors that a later clamp needs.
//
// The sketch is the randomized subspace iteration of Halko, Martinsson and Tropp 2011 (algorithm 4.4), in a form
// that reads G once a round where the textbook, which orthonormalises between G X and G^T Y, reads it twice:
//   X = Omega;  power_iters times: Y = X G^T and T = Y G in one pass, X = orthonormal basis of T   (sketch_basis)
//   at the end: Y = X G^T and T = Y G once more; W with orthonormal U = W Y and W T = U G = diag(sigma) V^T
// The span is the textbook's, that of (G G^T)^power_iters G Omega. Two things keep small values from drowning in
// the rounding of large ones: small matrices are formed and solved in float64, and the basis comes sorted by
// size, so that the last Y has nearly orthogonal rows of falling length, from which W follows row by row
// (sketch_ritz). Without rounds nothing is sorted: Y is orthonormalised before T, which reads G twice. And where the
// spectrum is so steep that float32 lost small directions of the first T, which holds squares, that matrix gets one
// round more than was asked for.
//
// Ranges. A sketch is first tried on G as it is. The size of the result shows whether numbers were lost
// (float32 ends at 1e38, and T holds squares); then, and only then, the norm is taken and the pass is made
// again on G times a power of two. A NaN or Inf in G shows in the same place. Which path is taken depends on
// G's values alone, and powers of two change no digit.
//
// The host decides nothing of this. The device notes in every matrix's flags what it needs, what is done for some is launched
// for all of the group and passes over the others, and when all groups are done one copy brings values, scales and flags.
#include "spectral/spectral.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "spectral/iterate.h"

// Sizes of X G^T between which float32 holds all that matters: squares, and 1e-14 of them.
static const double SAFE_LOW = 1e-8, SAFE_HIGH = 1e8;

// The largest absolute value of a contiguous tensor without NaN.
static mb_status max_abs(double *out, mb_tensor *t) {
  mb_tensor *extreme;
  mbi_shape scalar = {0};
  MB_TRY(mbi_tensor_new(&extreme, t->storage->device, t->dtype, &scalar));
  mbi_view view = mbi_view_of(t);
  unsigned all = (1u << t->shape.ndim) - 1;
  double high = 0, low = 0;
  mb_status status = mbi_kernels_of(t)->reduce(MBI_REDUCE_MAX, mbi_data(extreme), NULL, &view, all, 1);
  if (status == MB_OK) status = mb_tensor_item(&high, extreme);
  if (status == MB_OK) status = mbi_kernels_of(t)->reduce(MBI_REDUCE_MIN, mbi_data(extreme), NULL, &view, all, 1);
  if (status == MB_OK) status = mb_tensor_item(&low, extreme);
  mb_tensor_release(extreme);
  *out = high > -low ? high : -low;
  return status;
}

mb_status mbi_spectral_norm(double *norm, int *finite, mb_tensor *t) {
  const mbi_kernels *k = mbi_kernels_of(t);
  double sum = 0, largest;
  int64_t bad;
  *finite = 1;
  MB_TRY(k->sum_squares(&sum, mbi_data(t), mbi_numel(t)));
  *norm = sqrt(sum);
  if (isfinite(sum) && sum > 1e-200) return MB_OK;
  // Zero, out of float64's range when squared, or not finite.
  MB_TRY(k->find_nonfinite(&bad, mbi_data(t), mbi_numel(t)));
  *finite = bad < 0;
  if (bad >= 0) return MB_OK;
  MB_TRY(max_abs(&largest, t));
  if (largest == 0) return MB_OK;
  double scale = mbi_scale_of(largest, t->dtype == MB_F32);
  mb_tensor *scaled;
  MB_TRY(mbi_tensor_like(&scaled, t));
  mbi_view to = mbi_view_of(scaled), from = mbi_view_of(t);
  mb_status status = k->unary(MBI_AFFINE, &to, &from, scale, 0);
  sum = 0;
  if (status == MB_OK) status = k->sum_squares(&sum, mbi_data(scaled), mbi_numel(t));
  mb_tensor_release(scaled);
  *norm = sqrt(sum) / scale;
  return status;
}

static mb_status make(mb_tensor **t, const mbi_spectral_group *g, mb_dtype dtype, int64_t rows, int64_t columns) {
  if (*t) return MB_OK;
  mbi_shape shape = {.ndim = 3, .size = {g->count, rows, columns}};
  return mbi_tensor_new(t, g->device, dtype, &shape);
}

// ----- vectors and exact ------------------------------------------------------------------------------------

static const mb_dtype WIDE[] = {MB_F32, MB_F64}; // what is computed in

static mb_status probe_vectors(const mb_spectral *p) {
  for (int i = 0; i < 2; i++) {
    int64_t count;
    const mbi_arrays *vectors = mbi_spectral_arrays_list(p, MBI_SPECTRAL_VECTOR, WIDE[i], &count);
    if (count > 0) MB_TRY(mbi_device_of(p->device)->kernels[WIDE[i]]->norms(vectors, count, MBI_FINITE));
  }
  return MB_OK;
}

static mb_status probe_exact(mbi_spectral_group *g) {
  MB_TRY(make(&g->factor, g, MB_F64, g->k + 4, g->k));
  mbi_arrays matrices = mbi_spectral_arrays_of(g);
  MB_TRY(mbi_spectral_kernels(g)->norms(&matrices, 1, MBI_FINITE));
  mbi_gram gram = mbi_spectral_gram_of(g);
  return mbi_spectral_kernels(g)->gram_factor(&gram);
}

// ----- largest value alone -----------------------------------------------------------------------------------

static mb_status largest(const mbi_spectral_group *g) {
  return mbi_sigma_max(g->sigma, g->device, g->dtype, g->count, g->m, g->n, g->data, g->scale);
}

// On the host, which stops the iteration when it has converged.
static mb_status probe_whole(const mb_spectral *p, const mbi_spectral_group *g) {
  int again = 0;
  MB_TRY(largest(g));
  for (int64_t i = 0; i < g->count; i++) {
    double norm;
    int finite;
    if (g->sigma[i] >= SAFE_LOW && g->sigma[i] <= SAFE_HIGH) continue;
    MB_TRY(mbi_spectral_norm(&norm, &finite, p->matrices[g->index[i]]));
    if (!finite) {
      g->flags[i] = 0;
      return MB_OK;
    }
    g->scale[i] = mbi_scale_of(norm, g->dtype == MB_F32);
    again |= g->scale[i] != 1;
  }
  return again ? largest(g) : MB_OK;
}

// ----- sketch ---------------------------------------------------------------------------------------------

// Sizes of the first T, smallest to largest, below which its small directions are mostly rounding.
static const double STEEP = 3e-6;

// A sketch of all groups of a dtype: how calls of kernels see them.
typedef struct sketches {
  const mb_spectral *p;
  const mbi_kernels *k;
  mb_dtype dtype;
} sketches;

// Omega (q, n) of matrix i begins at element 2^34 i of the stream (the high bits of a stream's number count
// in steps of 2^32 blocks of four), so that it depends on the matrix's place in the plan and nothing else.
static mb_status draw(const sketches *all, mbi_rng_key key) {
  int64_t count;
  const mbi_sketch *s = mbi_spectral_sketches(all->p, all->dtype, 0, &count);
  return all->k->sketch_draw(s, count, key.seed, key.step, key.stream);
}

static mb_status pass(const sketches *all, int64_t wanted, int forms) {
  int64_t count;
  const mbi_sketch *s = mbi_spectral_sketches(all->p, all->dtype, wanted, &count);
  return all->k->sketch_pass(s, count, forms);
}

static mb_status basis(const sketches *all, int64_t wanted, int of_y, const mbi_sketch_limits *limits) {
  int64_t count;
  const mbi_sketch *s = mbi_spectral_sketches(all->p, all->dtype, wanted, &count);
  return all->k->sketch_basis(s, count, of_y, limits);
}

// The first round, from random numbers, of what has the flags wanted.
static mb_status first_round(const sketches *all, int64_t rounds, int64_t wanted, const mbi_sketch_limits *limits) {
  MB_TRY(pass(all, wanted, MBI_FROM_OMEGA | MBI_FORMS_Y | (rounds > 0 ? MBI_FORMS_T | MBI_FOR_BASIS : 0)));
  return basis(all, wanted, rounds == 0, limits);
}

static mb_status round_again(const sketches *all, int64_t wanted) {
  MB_TRY(pass(all, wanted, MBI_FORMS_Y | MBI_FORMS_T | MBI_FOR_BASIS));
  return basis(all, wanted, 0, NULL);
}

// The first round, and where it came out too small or too large, or not finite, norms, scales and the round again.
static mb_status fitted_round(const sketches *all, int64_t rounds) {
  double power = rounds > 0 ? 2 : 1; // t has sigma squared
  mbi_sketch_limits limits = {pow(SAFE_LOW, power), pow(SAFE_HIGH, power), rounds > 0 ? STEEP : 0};
  int64_t count, wanted = MBI_FINITE | MBI_EXTREME;
  MB_TRY(first_round(all, rounds, MBI_FINITE, &limits));
  const mbi_arrays *matrices = mbi_spectral_arrays_list(all->p, MBI_SPECTRAL_SKETCH, all->dtype, &count);
  MB_TRY(all->k->norms(matrices, count, wanted));
  limits.low = 0, limits.high = (double)INFINITY;
  return first_round(all, rounds, wanted, &limits);
}

mb_status mbi_spectral_subspace(mb_spectral *p, mb_dtype dtype, mbi_rng_key key) {
  int64_t rounds = p->options.power_iters;
  sketches all = {p, mbi_device_of(p->device)->kernels[dtype], dtype};
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    if (g->kind != MBI_SPECTRAL_SKETCH || g->dtype != dtype) continue;
    MB_TRY(make(&g->omega, g, g->dtype, g->k, g->n));
    MB_TRY(make(&g->x, g, g->dtype, g->k, g->n));
    MB_TRY(make(&g->y, g, g->dtype, g->k, g->m));
    MB_TRY(make(&g->t, g, g->dtype, g->k, g->n));
    MB_TRY(make(&g->w, g, MB_F64, g->k, g->k));
    MB_TRY(make(&g->sizes, g, MB_F64, 1, 2));
  }
  MB_TRY(draw(&all, key));
  MB_TRY(fitted_round(&all, rounds));
  if (rounds == 0) return MB_OK;
  for (int64_t round = 1; round < rounds; round++) MB_TRY(round_again(&all, MBI_FINITE));
  return round_again(&all, MBI_FINITE | MBI_STEEP);
}

static mb_status probe_sketches(mb_spectral *p, mb_dtype dtype, mbi_rng_key key) {
  int64_t count;
  mbi_spectral_sketches(p, dtype, MBI_FINITE, &count);
  if (count == 0) return MB_OK;
  MB_TRY(mbi_spectral_subspace(p, dtype, key));
  const mbi_sketch *s = mbi_spectral_sketches(p, dtype, MBI_FINITE, &count);
  const mbi_kernels *k = mbi_device_of(p->device)->kernels[dtype];
  MB_TRY(k->sketch_pass(s, count, p->options.power_iters > 0 ? MBI_FORMS_Y | MBI_FORMS_T : MBI_FORMS_T));
  return k->sketch_ritz(s, count);
}

// ----- public ---------------------------------------------------------------------------------------------

static mb_status refuse_nonfinite(mb_spectral *p) {
  char text[MBI_SHAPE_TEXT];
  for (int64_t i = 0; i < p->count; i++) {
    mb_tensor *t = p->matrices[i];
    int64_t bad;
    MB_TRY(mbi_kernels_of(t)->find_nonfinite(&bad, mbi_data(t), mbi_numel(t)));
    if (bad < 0) continue;
    p->nonfinite = i;
    MB_FAIL(MB_ERR_NONFINITE, "mb_spectral_probe: matrix %lld of shape %s holds NaN or Inf, first at element %lld (they count from 0)", (long long)i,
            mbi_shape_text(text, t->shape.ndim, t->shape.size), (long long)bad);
  }
  MB_FAIL(MB_ERR_NUMERIC, "mb_spectral_probe: a finite matrix gave singular values that are not finite");
}

// Points the group's data at copies of the matrices in the dtype that is computed in.
static mb_status convert_group(mb_spectral *p, mbi_spectral_group *g) {
  int64_t size = g->m * g->n;
  MB_TRY(make(&g->copies, g, g->dtype, g->m, g->n));
  for (int64_t i = 0; i < g->count; i++) {
    char *copy = (char *)mbi_data(g->copies) + (size_t)(i * size) * mbi_dtype_size(g->dtype);
    MB_TRY(mbi_memory_of(g->copies)->convert(copy, g->dtype, mbi_data(p->matrices[g->index[i]]), g->source, size));
    mbi_spectral_point(p, g, i, copy);
  }
  return MB_OK;
}

mb_status mbi_spectral_refresh(mb_spectral *p) {
  for (int64_t i = 0; i < p->count; i++) MB_TRY(mbi_check(p->matrices[i], "mb_spectral_probe", "a matrix of the plan"));
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    if (g->source != g->dtype) MB_TRY(convert_group(p, g));
    for (int64_t i = 0; i < g->count && g->source == g->dtype; i++) mbi_spectral_point(p, g, i, mbi_data(p->matrices[g->index[i]]));
  }
  return mbi_spectral_begin(p);
}

// Whether all that was found is finite.
static int is_finite(const mb_spectral *p) {
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++)
      if (!(g->flags[i] & MBI_FINITE)) return 0;
    for (int64_t i = 0; i < g->count * g->k; i++)
      if (!isfinite(g->sigma[i])) return 0;
  }
  return 1;
}

mb_status mbi_spectral_launch(mb_spectral *p, mbi_rng_key key) {
  MB_TRY(mbi_spectral_refresh(p));
  MB_TRY(probe_vectors(p));
  for (int64_t at = 0; at < p->group_count; at++)
    if (p->groups[at].kind == MBI_SPECTRAL_EXACT) MB_TRY(probe_exact(&p->groups[at]));
  for (int i = 0; i < 2; i++) MB_TRY(probe_sketches(p, WIDE[i], key));
  return MB_OK;
}

static mb_status probe(mb_spectral *p, double *sigma, mbi_rng_key key) {
  MB_TRY(mbi_spectral_launch(p, key));
  MB_TRY(mbi_spectral_fetch(p));
  for (int64_t at = 0; at < p->group_count; at++)
    if (p->groups[at].kind == MBI_SPECTRAL_WHOLE) MB_TRY(probe_whole(p, &p->groups[at]));
  if (!is_finite(p)) return refuse_nonfinite(p);
  MB_TRY(mbi_spectral_remember(p, MBI_FINITE));
  for (int64_t i = 0; i < p->count * p->width; i++) p->sigma[i] = (double)NAN;
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++)
      for (int64_t j = 0; j < g->kept; j++) p->sigma[g->index[i] * p->width + j] = g->sigma[i * g->k + j] / g->scale[i];
  }
  for (int64_t i = 0; i < p->count * p->width; i++)
    if (isinf(p->sigma[i]))
      MB_FAIL(MB_ERR_NUMERIC, "mb_spectral_probe: singular value %lld of matrix %lld is beyond %g, the limit of float64",
              (long long)(i % p->width), (long long)(i / p->width), DBL_MAX);
  memcpy(sigma, p->sigma, (size_t)(p->count * p->width) * sizeof(double));
  p->probed = 1;
  return MB_OK;
}

mb_status mb_spectral_probe(mb_spectral *p, double *sigma) {
  if (!p || !sigma) MB_FAIL(MB_ERR_ARG, "mb_spectral_probe: %s is NULL", p ? "sigma" : "the plan");
  p->probed = p->changed = 0;
  p->nonfinite = -1;
  if (p->options.method != MB_SPECTRAL_RANDOMIZED) return probe(p, sigma, (mbi_rng_key){0});
  mbi_rng_key key = mbi_rng_next();
  mb_status status = probe(p, sigma, key);
  if (status != MB_OK) mbi_rng_give_back(key);
  return status;
}
